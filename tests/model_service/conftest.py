"""Real models, really served: tiny ONNX graphs, and `python -m model_service` in a process of its own."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

REPOSITORY = Path(__file__).parents[2]
START_DEADLINE_S = 30
HEAVY_SHAPE = [600, 600]


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    *,
    ir_version: int = 10,
    opset: int = 22,
) -> bytes:
    """An ONNX model of `nodes`; inputs and outputs by name, each an element type and a shape."""

    def values(tensors: dict[str, tuple[int, list[Any]]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    made = helper.make_graph(nodes, "test", values(inputs), values(outputs))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return model.SerializeToString()


def identity(kind: int, shape: list[Any]) -> bytes:
    """A model that answers with its input: x -> y."""
    return graph([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})


def addition() -> bytes:
    """A model with two inputs of equally many rows: sum = a + b."""
    shape = ["N", 2]
    kinds = {"a": (TensorProto.FLOAT, shape), "b": (TensorProto.FLOAT, shape)}
    return graph([helper.make_node("Add", ["a", "b"], ["sum"])], kinds, {"sum": (TensorProto.FLOAT, shape)})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_manifest(
    directory: Path, model: bytes, *, golden: dict[str, np.ndarray] | None = None, **members: Any
) -> Path:
    """A model with its manifest, as they stand beside each other for a file:// address; the manifest's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(model)
    manifest: dict[str, Any] = {
        "format": "onnxship.model/1",
        "name": "tiny",
        "platform": "onnx_onnxv1",
        "files": [describe_file(directory / "model.onnx")],
    }
    if golden is not None:
        np.savez(directory / "golden.npz", **golden)
        manifest["golden"] = describe_file(directory / "golden.npz")
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest | members, sort_keys=True))
    return path


def describe_file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"name": path.name, "sha256": sha256(content), "size_bytes": len(content)}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """A running `python -m model_service`; stdout goes to a file of JSON lines."""

    process: subprocess.Popen[bytes]
    log_path: Path
    ports: dict[str, int] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request over a new connection, with no other headers than given (and Host, Content-Length)."""
        return send(self.ports["port"], method, path, body, headers)

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """POST `body`, as JSON unless it is bytes; without a Content-Type, as the protocol's clients do."""
        return self.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    def metrics(self) -> str:
        return send(self.ports["admin_port"], "GET", "/metrics").body.decode()

    def metrics_value(self, name: str) -> float:
        """The first sample of a metric, whatever its labels."""
        lines = (line for line in self.metrics().splitlines() if line.startswith((name + "{", name + " ")))
        return float(next(lines).rsplit(" ", 1)[1])

    def log(self) -> list[dict[str, Any]]:
        """Every complete line of the log."""
        return [json.loads(line) for line in self.log_path.read_bytes().splitlines(True) if line.endswith(b"\n")]

    def lines_of(self, request_id: str, count: int) -> list[dict[str, Any]]:
        """The first `count` log lines of a request; they are written after its answer."""
        self.wait_until(lambda: len(self._lines_of(request_id)) >= count, f"logged {count} lines")
        return self._lines_of(request_id)

    def _lines_of(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line.get("request_id") == request_id]

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + START_DEADLINE_S
        while not (found := condition()):
            assert self.process.poll() is None, f"exited with {self.process.returncode}: {self.log_path.read_text()}"
            assert time.monotonic() < deadline, f"never {what}: {self.log_path.read_text()}"
            time.sleep(0.02)
        return found

    def wait_listening(self) -> Service:
        line = self.wait_until(lambda: next((line for line in self.log() if "port" in line), None), "listened")
        self.ports = {"port": line["port"], "admin_port": line["admin_port"]}
        return self

    def wait_ready(self) -> Service:
        self.wait_listening()
        self.wait_until(lambda: self.get("/v2/health/ready").status == 200, "ready")
        return self

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_DEADLINE_S)


def send(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_DEADLINE_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


Launch = Callable[..., Service]


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Starts a service for a manifest: `launch(manifest_path, code="def startup(): ...", DRAIN_S="0")`."""
    started: list[Service] = []

    def start(manifest: Path | str, *, code: str = "", pass_fds: tuple[int, ...] = (), **environment: str) -> Service:
        directory = tmp_path_factory.mktemp("service")
        if code:
            (directory / "service.py").write_text(code)
        uri = manifest if isinstance(manifest, str) else manifest.as_uri()
        settings = {
            "MODEL_MANIFEST_URI": uri,
            "MODEL_DIR": str(directory / "models"),
            "RELEASE_ID": "r1",
            "BIND_HOST": "127.0.0.1",
            "PORT": "0",
            "ADMIN_PORT": "0",
            "DRAIN_S": "0",
        }
        variables = os.environ | {"PYTHONPATH": str(REPOSITORY)} | settings | environment
        log_path = directory / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "model_service"],
                cwd=directory,
                env=variables,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        service = Service(process, log_path)
        started.append(service)
        return service

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


@pytest.fixture(scope="session")
def digits_rows() -> np.ndarray:
    """32 digits, as float32 rows of 64."""
    from sklearn.datasets import load_digits

    return load_digits().data[:32].astype(np.float32)


@pytest.fixture(scope="session")
def digits_manifest(tmp_path_factory: pytest.TempPathFactory, digits_rows: np.ndarray) -> Path:
    """scikit-learn's digits, classified: X -> label, probabilities."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_digits()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(data.data, data.target)
    converted = to_onnx(model, digits_rows[:1], options={id(model): {"zipmap": False}}, target_opset=22)
    predict = {"input": "X", "label": "label", "probabilities": "probabilities"}
    return write_manifest(
        tmp_path_factory.mktemp("digits"),
        converted.SerializeToString(),
        golden={"X": digits_rows, "expected": data.target[:32]},
        name="digits",
        predict=predict,
    )


@pytest.fixture(scope="session")
def heavy_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = clip(x·W), again and again: some tens of milliseconds of arithmetic on 1.44 MB."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [0.001])
    nodes = [
        helper.make_node("Constant", [], ["size"], value_ints=HEAVY_SHAPE),
        helper.make_node("ConstantOfShape", ["size"], ["w"], value=weight),
    ]
    for before, after in itertools.pairwise(["x", *map(str, range(20)), "y"]):
        nodes += [helper.make_node("MatMul", [before, "w"], [f"{after} product"])]
        nodes += [helper.make_node("Clip", [f"{after} product"], [after])]
    kind = (TensorProto.FLOAT, HEAVY_SHAPE)
    return write_manifest(tmp_path_factory.mktemp("heavy"), graph(nodes, {"x": kind}, {"y": kind}))


@pytest.fixture(scope="session", params=["on", "off"], ids=["hot", "ordinary"])
def hot_path(request: pytest.FixtureRequest) -> str:
    """What is promised holds on the hot path and on the ordinary one."""
    return str(request.param)


@pytest.fixture(scope="session")
def digits(launch: Launch, digits_manifest: Path, hot_path: str) -> Service:
    """The digits model, served."""
    return launch(digits_manifest, MAX_ROWS="100", MAX_BODY_BYTES="200000", HOT_PATH=hot_path).wait_ready()


@pytest.fixture(scope="session")
def adder(launch: Launch, tmp_path_factory: pytest.TempPathFactory, hot_path: str) -> Service:
    """The model with two inputs, served."""
    manifest = write_manifest(tmp_path_factory.mktemp("adder"), addition(), name="adder")
    return launch(manifest, HOT_PATH=hot_path).wait_ready()
