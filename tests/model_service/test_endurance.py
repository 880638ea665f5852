"""10,000 malformed requests, in every form, over many connections: memory stays flat and the server answers."""

import gzip
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from onnx import TensorProto

from tests.model_service.conftest import Launch, Service, identity, write_manifest

LENGTH = "Inference-Header-Content-Length"
REQUESTS = 10_000
WARM_UP = 6_400
CONNECTIONS = 16
PER_CONNECTION = 25  # a connection is then closed, and another one opened
MAY_GROW = 1.10
# So small that what a few bodies take at once is little beside what 10,000 would leave.
MAX_BODY_BYTES = 2**17

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


class Malformed(NamedTuple):
    """A request that no server can answer with 200."""

    path: str
    body: bytes
    headers: dict[str, str]


ROW: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 256]}
DATA = struct.pack("<256f", *range(256))


def binary(tail: bytes, length: int | str | None = None, **changes: Any) -> Malformed:
    tensor = {**ROW, "parameters": {"binary_data_size": len(tail)}, **changes}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Malformed("/v2/models/rows/infer", head + tail, {LENGTH: str(len(head) if length is None else length)})


def as_json(**changes: Any) -> Malformed:
    return Malformed("/v2/models/rows/infer", json.dumps({"inputs": [ROW | changes]}).encode(), {})


def strings(data: bytes, count: int) -> Malformed:
    made = binary(data, datatype="BYTES", shape=[count])
    return made._replace(path="/v2/models/texts/infer")


def packed(body: bytes, encoding: str = "gzip") -> Malformed:
    return Malformed("/v2/models/rows/infer", body, {"Content-Encoding": encoding})


# Each makes another body every time: what is kept by mistake cannot be the same object twice.
KINDS: list[Callable[[random.Random], Malformed]] = [
    lambda dice: binary(dice.randbytes(dice.randrange(1, 1024) // 2 * 2 + 1)),
    lambda dice: binary(DATA, length=dice.randrange(10_000, 10**9)),
    lambda dice: binary(DATA, length=f"-{dice.randrange(9)}"),
    lambda dice: binary(DATA, length=dice.randrange(1, 40)),
    lambda dice: binary(DATA, shape=[dice.randrange(2, 2**62), 256]),
    lambda dice: binary(DATA, data=[dice.random()]),
    lambda dice: binary(DATA, datatype=f"FP{dice.randrange(100, 999)}"),
    lambda dice: binary(DATA, name=dice.randbytes(40).hex()),
    lambda dice: binary(DATA, parameters={"binary_data_size": dice.randrange(1025, 2**70)}),
    lambda dice: as_json(data=[dice.random()] * dice.randrange(255)),
    lambda dice: as_json(data=[[[dice.random()]]] * 256),
    lambda dice: as_json(data=["a" * dice.randrange(1000)] * 256),
    lambda dice: as_json(data=[1e39 * dice.random()] * 255 + [1e39]),
    lambda dice: as_json(data=[dice.random()] * 256, shape=[0, 256]),
    lambda dice: Malformed("/v2/models/rows/infer", b"[" * dice.randrange(1, 50_000), {}),
    lambda dice: Malformed("/v2/models/rows/infer", dice.randbytes(dice.randrange(5000)), {}),
    lambda dice: Malformed("/predict", json.dumps({"inputs": [[dice.random()] * 255] * 9}).encode(), {}),
    lambda dice: Malformed("/predict", dice.randbytes(dice.randrange(5000)), {"Content-Type": "multipart/form-data"}),
    lambda dice: Malformed(f"/v2/models/{dice.randbytes(8).hex()}/infer", DATA, {}),
    lambda dice: strings(struct.pack("<I", dice.randrange(5, 2**32)) + b"abc", 1),
    lambda dice: strings(dice.randbytes(dice.randrange(4, 400)) + b"\xff", 1),
    lambda dice: strings(b"", dice.randrange(1, 4096)),
    lambda dice: packed(gzip.compress(b" " * (2 * MAX_BODY_BYTES + dice.randrange(MAX_BODY_BYTES)), 1)),
    lambda dice: packed(zlib.compress(dice.randbytes(2000))[: dice.randrange(1, 2000)], "deflate"),
    lambda dice: packed(dice.randbytes(500), "br"),
    lambda dice: Malformed("/v2/models/rows/infer", bytes(MAX_BODY_BYTES + 1 + dice.randrange(MAX_BODY_BYTES)), {}),
]


def rss_bytes(service: Service) -> int:
    return int(service.metrics_value("process_resident_memory_bytes"))


def send_all(service: Service, seed: int, count: int) -> Counter[int]:
    """`count` malformed requests over connections of their own; how often each status came."""
    dice, statuses = random.Random(seed), Counter[int]()
    for begin in range(0, count, PER_CONNECTION):
        connection = HTTPConnection("127.0.0.1", service.ports["port"], timeout=60)
        for _ in range(min(PER_CONNECTION, count - begin)):
            malformed = dice.choice(KINDS)(dice)
            connection.request("POST", malformed.path, malformed.body, malformed.headers)
            reply = connection.getresponse()
            told = json.loads(reply.read())
            assert ["error"] == list(told), told
            statuses[reply.status] += 1
        connection.close()
    return statuses


def storm(service: Service, seed: int, count: int) -> Counter[int]:
    """The same over many connections at once."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = pool.map(lambda number: send_all(service, seed + number, count // CONNECTIONS), range(CONNECTIONS))
        return sum(shares, Counter[int]())


@pytest.fixture
def service(launch: Launch, tmp_path: Path, hot_path: str) -> Iterator[Service]:
    write_manifest(tmp_path / "rows", identity(TensorProto.FLOAT, ["N", 256]), name="rows")
    write_manifest(tmp_path / "texts", identity(TensorProto.STRING, ["N"]), name="texts")
    environment = {
        "MODEL_REPOSITORY_URI": tmp_path.as_uri(),
        "HOT_PATH": hot_path,
        "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    }
    service = launch("", ACCESS_LOG="errors", **environment).wait_ready()
    yield service
    assert 0 == service.stop()


def test_malformed_requests_leave_nothing_behind(service: Service) -> None:
    """Once its buffers have their size, the server's memory grows by less than a tenth, and its answers are right."""
    storm(service, 0, WARM_UP)
    before = rss_bytes(service)
    statuses = storm(service, 1_000, REQUESTS)
    after = rss_bytes(service)

    assert REQUESTS == statuses.total()
    assert {400, 404, 413, 415} == set(statuses)
    assert after < MAY_GROW * before, (before, after)
    answer = service.post("/v2/models/rows/infer", {"inputs": [ROW | {"data": list(range(256))}]})
    assert (200, list(range(256))) == (answer.status, answer.json["outputs"][0]["data"])
    assert [] == [line for line in service.log() if line.get("method") == "POST" and line["status"] >= 500]
