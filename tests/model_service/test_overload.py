"""More requests than the service can do, with large bodies, over connections that stay open."""

import http.client
import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.model_service.conftest import HEAVY_SHAPE, Launch, Service

CONNECTIONS, REQUESTS = 24, 30
MAX_PENDING = 4
SIZE_BYTES = 4 * math.prod(HEAVY_SHAPE)
TENSOR = {"name": "x", "datatype": "FP32", "shape": HEAVY_SHAPE, "parameters": {"binary_data_size": SIZE_BYTES}}
HEAD = json.dumps({"inputs": [TENSOR]}).encode()
# A refused body costs what has come of it while it comes; all that were sent here are a gigabyte.
MAY_GROW_BYTES = 96 * 2**20


def ask_again_and_again(service: Service) -> Counter[int]:
    statuses = Counter[int]()
    connection = http.client.HTTPConnection("127.0.0.1", service.ports["port"], timeout=60)
    for _ in range(REQUESTS):
        headers = {"Inference-Header-Content-Length": str(len(HEAD))}
        connection.request("POST", "/v2/models/tiny/infer", HEAD + bytes(SIZE_BYTES), headers)
        reply = connection.getresponse()
        reply.read()
        statuses[reply.status] += 1
    connection.close()
    return statuses


def storm(service: Service) -> Counter[int]:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(lambda _: ask_again_and_again(service), range(CONNECTIONS)), Counter[int]())


def peak_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def test_requests_beyond_the_queue_leave_memory_flat(launch: Launch, heavy_manifest: Path) -> None:
    """What is taken is answered, the rest is refused with 503, and neither is kept: not by a connection that waits for
    its next request, and not until the garbage collector finds it."""
    service = launch(heavy_manifest, MAX_PENDING=str(MAX_PENDING), WIDE_PATH="off").wait_ready()
    ask_again_and_again(service)
    before = peak_bytes(service)
    statuses = storm(service)
    assert {200, 503} == set(statuses)
    assert statuses[503] > CONNECTIONS * REQUESTS / 2, "this was no overload"
    assert peak_bytes(service) - before < MAY_GROW_BYTES
    assert 0 == service.stop()
