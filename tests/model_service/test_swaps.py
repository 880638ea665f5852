"""A hundred versions one after the other under load: nobody is failed, and the memory comes back."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.model_service.conftest import Launch, Service, describe_file, graph, send

SWAPS = 100
WARM_SWAPS = 5
CALLERS = 4
SIDE = 1600  # weights of 10 MB: what stays behind would show


def put(repository: Path, number: int) -> None:
    """Version `number` of a model whose answer is its number."""
    weights = np.zeros((SIDE, SIDE), np.float32)
    weights[:, 0] = number / SIDE
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights)),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    shape = (TensorProto.FLOAT, ["N", SIDE])
    target = repository / "swapped"
    target.mkdir(exist_ok=True)
    model = target / "model.onnx"
    model.write_bytes(graph(nodes, {"x": shape}, {"y": shape}))
    manifest = {"format": "onnxship.model/1", "name": "swapped", "files": [describe_file(model)]}
    (target / "manifest.tmp").write_text(json.dumps(manifest))
    (target / "manifest.tmp").rename(target / "manifest.json")


class Callers:
    """Callers that ask without pause, and what they were answered."""

    def __init__(self, service: Service) -> None:
        head = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [1, SIDE],
                    "parameters": {"binary_data_size": 4 * SIDE},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
        json_part = json.dumps(head).encode()
        self.body = json_part + np.ones(SIDE, np.float32).tobytes()
        self.headers = {"Inference-Header-Content-Length": str(len(json_part))}
        self.service = service
        self.failed: list[object] = []
        self.answered = 0
        self.latest = 0.0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]

    def call(self) -> None:
        while not self.stopped.is_set():
            try:
                reply = self.service.request("POST", "/v2/models/swapped/infer", self.body, self.headers)
            except OSError as error:
                self.failed.append(error)
                continue
            if reply.status != 200:
                self.failed.append(reply.body)
                continue
            self.answered += 1
            self.latest = float(np.frombuffer(reply.body[-4 * SIDE :], np.float32)[0])

    def __enter__(self) -> "Callers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def memory_bytes(service: Service) -> float:
    return service.metrics_value("process_resident_memory_bytes")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_hundred_swaps_fail_nobody(launch: Launch, tmp_path: Path) -> None:
    """100 swaps under load: 0 failed requests, each version answers, memory within 10 % of what the first took."""
    put(tmp_path, 1)
    environment = {"MODEL_REPOSITORY_URI": tmp_path.as_uri(), "MODEL_CONTROL": "explicit", "LOAD_MODELS": "swapped"}
    service = launch("", **environment, ACCESS_LOG="errors").wait_ready()
    before = 0.0
    with Callers(service) as callers:
        for number in range(2, SWAPS + 2):
            put(tmp_path, number)
            reply = send(service.ports["admin_port"], "POST", "/v2/repository/models/swapped/load", b"{}")
            assert 200 == reply.status, reply.body
            service.wait_until(lambda number=number: round(callers.latest) == number, f"at {number}")
            if number <= WARM_SWAPS:
                before = max(before, memory_bytes(service))
    assert [] == callers.failed
    assert callers.answered > SWAPS
    # The last versions may still be on their way out.
    service.wait_until(lambda: memory_bytes(service) < 1.1 * before, "gave its memory back")
    assert 1 == len(service.get("/v2/models/swapped").json["versions"])
    assert 0 == service.stop()
