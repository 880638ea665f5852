"""The server on GRPC_PORT among the others of its process: limits, keys, log, metrics, and its end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from open_inference.grpc import protocol

from tests.model_service.conftest import REPOSITORY, Launch, Service, addition, write_manifest
from tests.model_service.oip_grpc.conftest import (
    INFER_PATH,
    Client,
    Connect,
    InferRequest,
    add_input,
    raw_sum,
    typed_sum,
)

StatusCode = grpc.StatusCode
PREDICT = b'{"input": {"a": [1, 2], "b": [3, 4]}}'


def waiting_for(path: Path, function: str) -> str:
    """A service.py whose `function` returns only when `path` exists."""
    return f"""
import pathlib, time
def {function}:
    while not pathlib.Path({str(path)!r}).exists():
        time.sleep(0.01)
    return {{}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "source", addition(), name="adder")


def pending(service: Service) -> float:
    return service.metrics_value("nv_inference_pending_request_count")


def canceled(service: Service) -> float:
    line = next(line for line in service.metrics().splitlines() if 'reason="CANCELED"' in line)
    return float(line.rsplit(" ", 1)[1])


class Occupied:
    """A service whose only slot is taken by a request, until `free`."""

    def __init__(self, launch: Launch, manifest: Path, go: Path, **environment: str) -> None:
        code = waiting_for(go, "postprocess(outputs)")
        self.service = launch(manifest, code=code, GRPC_PORT="0", SLOTS="1", **environment).wait_ready()
        self._go = go
        self._pool = ThreadPoolExecutor(1)
        self._first = self._pool.submit(self.service.post, "/predict", PREDICT)
        self.service.wait_until(lambda: pending(self.service) == 1, "in work")

    def free(self) -> None:
        self._go.touch()
        assert 200 == self._first.result().status
        self._pool.shutdown()


def test_answers_many_as_one_would(
    launch: Launch, connect: Connect, digits_manifest: Path, digits_rows: np.ndarray
) -> None:
    """64 callers at once get what ONNX Runtime itself answers to each alone."""
    client = connect(launch(digits_manifest, GRPC_PORT="0").wait_ready())
    session = onnxruntime.InferenceSession(str(digits_manifest.parent / "model.onnx"))

    def ask(number: int) -> Any:
        row = digits_rows[number % 32 : number % 32 + 1]
        request = InferRequest(model_name="digits", id=str(number))
        if number % 2:
            add_input(request, "X", "FP32", [1, 64], field="fp32_contents", values=row[0].tolist())
            tensors = client.call("ModelInfer", request).outputs
            return tensors[0].contents.int64_contents[0], np.array(tensors[1].contents.fp32_contents, "<f4")
        add_input(request, "X", "FP32", [1, 64])
        request.raw_input_contents.append(row.astype("<f4").tobytes())
        contents = client.call("ModelInfer", request).raw_output_contents
        return np.frombuffer(contents[0], "<i8")[0], np.frombuffer(contents[1], "<f4")

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(256)))
    for number, (label, probabilities) in enumerate(answers):
        expected = session.run(None, {"X": digits_rows[number % 32 : number % 32 + 1]})
        assert expected[0][0] == label
        np.testing.assert_allclose(expected[1][0], probabilities, rtol=1e-5)
    assert [] == [line for line in client.service.log() if "stack" in line]


def test_lives_before_it_is_ready(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """While the model loads the server is live and not ready, and an inference is told when to come again."""
    service = launch(manifest, code=waiting_for(tmp_path / "go", "startup()"), GRPC_PORT="0").wait_listening()
    client = connect(service)
    assert client.call("ServerLive", protocol.ServerLiveRequest()).live
    assert not client.is_ready()
    assert not client.call("ModelReady", protocol.ModelReadyRequest(name="adder")).ready
    refusal = client.refusal("ModelInfer", typed_sum())
    assert (StatusCode.UNAVAILABLE, "the model is still loading") == (refusal.code, refusal.words)
    assert "1000" == refusal.metadata["grpc-retry-pushback-ms"]
    (tmp_path / "go").touch()
    service.wait_until(client.is_ready, "ready")
    assert [3.0, 3.0] == list(client.call("ModelInfer", typed_sum()).outputs[0].contents.fp32_contents)


def test_a_deadline_that_passes_in_the_queue(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """A call whose deadline passes while it waits is not run."""
    occupied = Occupied(launch, manifest, tmp_path / "go")
    client = connect(occupied.service)
    with pytest.raises(grpc.RpcError) as raised:
        client.stub.ModelInfer(typed_sum(), timeout=0.5)
    assert StatusCode.DEADLINE_EXCEEDED == raised.value.code()
    occupied.service.wait_until(lambda: pending(occupied.service) == 1, "given up")
    occupied.free()
    assert 1 == occupied.service.metrics_value("nv_inference_count")


def test_a_caller_that_goes_takes_its_work_along(
    launch: Launch, connect: Connect, manifest: Path, tmp_path: Path
) -> None:
    """A call that is cancelled leaves the queue, and stands in log and metrics as such."""
    occupied = Occupied(launch, manifest, tmp_path / "go")
    service = occupied.service
    call = connect(service).stub.ModelInfer.future(typed_sum(), metadata=[("x-request-id", "gone")])
    service.wait_until(lambda: pending(service) == 2, "queued")
    call.cancel()
    service.wait_until(lambda: canceled(service) == 1, "given up")
    assert 1 == pending(service)
    assert 499 == service.lines_of("gone", 1)[0]["status"]
    occupied.free()
    assert 1 == service.metrics_value("nv_inference_count")


def test_refuses_at_once_when_too_many_wait(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """With MAX_PENDING requests in work the next call is UNAVAILABLE, and is told when to come again."""
    occupied = Occupied(launch, manifest, tmp_path / "go", MAX_PENDING="1")
    refusal = connect(occupied.service).refusal("ModelInfer", typed_sum())
    assert (StatusCode.UNAVAILABLE, "1 requests are waiting already") == (refusal.code, refusal.words)
    assert "1000" == refusal.metadata["grpc-retry-pushback-ms"]
    occupied.free()


def test_refuses_messages_that_are_too_large(adder: Client) -> None:
    """MAX_BODY_BYTES holds for messages as they come, and as they are decompressed: a bomb does not go off."""
    refusal = adder.refusal("ModelInfer", InferRequest(model_name="x" * 200_000))
    assert (StatusCode.RESOURCE_EXHAUSTED, True) == (refusal.code, "larger than max" in refusal.words)
    before = peak_memory_bytes(adder.service)
    bomb = InferRequest(raw_input_contents=[bytes(192 * 1024 * 1024)])
    refusal = adder.refusal("ModelInfer", bomb, compression=grpc.Compression.Gzip)
    assert (StatusCode.RESOURCE_EXHAUSTED, True) == (refusal.code, "larger than max" in refusal.words)
    assert peak_memory_bytes(adder.service) - before < 64 * 1024 * 1024


def peak_memory_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def test_asks_for_a_key(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """With API keys every call needs one, of scope infer, but those of health probes."""
    keys = {"app": "infer", "ops": "admin"}
    entries = [
        {"id": name, "sha256": hashlib.sha256(f"k-{name}".encode()).hexdigest(), "scopes": [scope]}
        for name, scope in keys.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": entries}))
    client = connect(launch(manifest, GRPC_PORT="0", API_KEYS_FILE=str(tmp_path / "keys.json")).wait_ready())
    assert client.call("ServerLive", protocol.ServerLiveRequest()).live
    assert client.is_ready()
    for metadata in ((), (("x-api-key", "wrong"),)):
        for name in ("ModelInfer", "ModelMetadata", "ModelReady", "ServerMetadata"):
            refusal = client.refusal(name, getattr(protocol, f"{name}Request")(), metadata=metadata)
            assert (StatusCode.UNAUTHENTICATED, True) == (refusal.code, "a good API key" in refusal.words)
    refusal = client.refusal("ModelInfer", raw_sum(), metadata=[("x-api-key", "k-ops")])
    assert (StatusCode.PERMISSION_DENIED, True) == (refusal.code, "scope `infer`" in refusal.words)
    for key in (("authorization", "Bearer k-app"), ("x-api-key", "k-app")):
        assert 1 == len(client.call("ModelInfer", raw_sum(), metadata=[key]).raw_output_contents)


def test_logs_one_line_per_call(adder: Client) -> None:
    """With the caller's id and trace, which also come back, and without probes."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    metadata = [("x-request-id", "mine"), ("traceparent", f"00-{trace}-{parent}-01")]
    _, call = adder.stub.ModelInfer.with_call(typed_sum(), timeout=30, metadata=metadata)
    sent_back = {item.key: item.value for item in call.trailing_metadata()}
    assert ("mine", "r1") == (sent_back["x-request-id"], sent_back["x-onnxship-release"])
    line = adder.service.lines_of("mine", 1)[0]
    assert (trace, 200, INFER_PATH) == (line["trace_id"], line["status"], line["path"])
    assert ("adder", "POST") == (line["model"], line["method"])
    adder.refusal("ModelInfer", InferRequest(model_name="x"), metadata=[("x-request-id", "bad")])
    assert 404 == adder.service.lines_of("bad", 1)[0]["status"]
    adder.is_ready()
    adder.call("ModelReady", protocol.ModelReadyRequest(), metadata=[("x-request-id", "last")])
    adder.service.lines_of("last", 1)
    assert not [line for line in adder.service.log() if "ServerReady" in line.get("path", "")]


def test_counts_with_the_others(adder: Client) -> None:
    """The metrics tell gRPC by their label `endpoint`."""

    def count() -> float:
        name = 'model_service_request_duration_seconds_count{endpoint="grpc"'
        line = next(line for line in adder.service.metrics().splitlines() if line.startswith(name))
        return float(line.rsplit(" ", 1)[1])

    before = count()
    adder.call("ModelInfer", typed_sum())
    assert before + 1 == count()


def test_finishes_what_is_in_flight(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """On SIGTERM it is not ready any more, answers for DRAIN_S, finishes what it has, and ends with 0."""
    occupied = Occupied(launch, manifest, tmp_path / "go", DRAIN_S="1")
    service, client = occupied.service, connect(occupied.service)
    waiting = client.stub.ModelInfer.future(typed_sum())
    service.wait_until(lambda: pending(service) == 2, "queued")
    service.process.send_signal(signal.SIGTERM)
    service.wait_until(lambda: not client.is_ready(), "not ready")
    service.wait_until(lambda: is_unavailable(connect(service)), "closed to new calls")
    occupied.free()
    assert [3.0, 3.0] == list(waiting.result(30).outputs[0].contents.fp32_contents)
    assert 0 == service.process.wait(30)


def is_unavailable(client: Client) -> bool:
    try:
        client.is_ready()
    except grpc.RpcError as error:
        return bool(error.code() == StatusCode.UNAVAILABLE)
    return False


def test_does_not_wait_for_ever(launch: Launch, connect: Connect, manifest: Path, tmp_path: Path) -> None:
    """After SHUTDOWN_S the process ends, whatever is still in flight."""
    occupied = Occupied(launch, manifest, tmp_path / "go", SHUTDOWN_S="1")
    waiting = connect(occupied.service).stub.ModelInfer.future(typed_sum())
    occupied.service.wait_until(lambda: pending(occupied.service) == 2, "queued")
    assert 0 == occupied.service.stop()
    assert waiting.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)


def test_a_port_in_use_is_named(launch: Launch, manifest: Path) -> None:
    """A port that is taken, by another gRPC server as well, ends the process with its number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = launch(manifest, GRPC_PORT=str(port))
        assert 1 == service.process.wait(30)
    assert f"cannot listen on 127.0.0.1 port {port} (GRPC_PORT)" in service.log()[-1]["message"]
    first = launch(manifest, GRPC_PORT="0").wait_listening()
    port = next(line["grpc_port"] for line in first.log() if "grpc_port" in line)
    service = launch(manifest, GRPC_PORT=str(port))
    assert 1 == service.process.wait(30)


def test_without_the_extra_it_says_what_to_install(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """Where grpcio is not installed GRPC_PORT ends the process, and without GRPC_PORT nothing is missed."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['grpc'] = None\n")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    service = launch(manifest, GRPC_PORT="0", PYTHONPATH=path)
    assert 1 == service.process.wait(30)
    assert "GRPC_PORT is set, but `grpc` is not installed: install `onnxship[grpc]`" in service.log()[-1]["message"]
    assert 0 == launch(manifest, PYTHONPATH=path).wait_ready().stop()
