"""Who is measured: each a server with the settings that suit it best, the work it serves and the form it speaks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models
from benchmarks.forms import Form
from benchmarks.models import Work
from benchmarks.peers import install
from benchmarks.processes import Server, free_port

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"


@dataclass(frozen=True)
class Contender:
    """A server, not started yet; `name` stands in the report."""

    name: str
    work: Work
    form: Form
    server: Server
    ready_path: str

    def requests(self) -> list[bytes]:
        """The work's rows as whole HTTP requests."""
        return [self._request(rows) for rows in self.work.rows()]

    def _request(self, rows: object) -> bytes:
        request = self.form.write(self.work, rows)
        path = self.form.path.format(model=self.work.name)
        headers = {"Host": f"127.0.0.1:{self.server.port}", "Content-Length": str(len(request.body)), **request.headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + request.body


# Makes a contender for build/bench; a peer is installed then. Raises PeerDoesNotRun.
Maker = Callable[[Path], Contender]


def ours(work: Work, form: Form, **environment: str) -> Maker:
    """`python -m model_service`, as the container runs it, but without a log line per request, as the peers."""

    def make(directory: Path) -> Contender:
        place = directory / "served" / work.name
        manifest = write_manifest(work, directory)
        variables = {
            "PYTHONPATH": str(ROOT),
            "MODEL_MANIFEST_URI": manifest.as_uri(),
            "MODEL_DIR": tempfile.mkdtemp(prefix="models-", dir=place),
            "BIND_HOST": "127.0.0.1",
            "PORT": str(port := free_port()),
            "ADMIN_PORT": str(free_port()),
            "DRAIN_S": "0",
            "ACCESS_LOG": "errors",
        }
        command = [sys.executable, "-m", "model_service"]
        log = directory / "logs" / f"onnxship-{port}.log"
        server = Server(command, variables | environment, place, log, port)
        return Contender("onnxship", work, form, server, "/v2/health/ready")

    return make


def write_manifest(work: Work, directory: Path) -> Path:
    """The model beside its manifest, as `file://` wants them."""
    place = directory / "served" / work.name
    place.mkdir(parents=True, exist_ok=True)
    model = place / "model.onnx"
    model.unlink(missing_ok=True)
    os.link(models.make(work, directory), model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    described = {"name": model.name, "sha256": digest, "size_bytes": model.stat().st_size}
    document = {"format": "onnxship.model/1", "name": work.name, "platform": "onnx_onnxv1", "files": [described]}
    manifest = place / "manifest.json"
    manifest.write_text(json.dumps(document))
    return manifest


def naive(work: Work, form: Form, *, intra_op_threads: int) -> Maker:
    """FastAPI as a newcomer writes it."""

    def make(directory: Path) -> Contender:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.naive", str(models.make(work, directory)), str(port)]
        log = directory / "logs" / "naive.log"
        server = Server([*command, str(intra_op_threads)], {"PYTHONPATH": str(ROOT)}, directory, log, port)
        return Contender("naive FastAPI", work, form, server, "/health")

    return make


def litserve(work: Work, form: Form, *, workers: int, batch: int = 1, api_servers: int = 1) -> Maker:
    """LitServe: worker processes behind a queue."""

    def make(directory: Path) -> Contender:
        port = free_port()
        command = [str(install.ensure("litserve", directory)), str(PEERS / "litserve_server.py")]
        command += [str(models.make(work, directory)), *map(str, (port, workers, batch, api_servers))]
        server = Server(command, {}, directory, directory / "logs" / "litserve.log", port)
        return Contender("LitServe", work, form, server, "/health")

    return make


def mlserver(work: Work, form: Form, *, parallel_workers: int, batch: int = 0) -> Maker:
    """MLServer with a custom runtime; `batch` above 0 switches its adaptive batching on."""

    def make(directory: Path) -> Contender:
        python = install.ensure("mlserver", directory)
        place = directory / "served" / f"mlserver-{work.name}"
        place.mkdir(parents=True, exist_ok=True)
        port = free_port()
        settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        quiet = {"debug": False, "parallel_workers": parallel_workers}
        (place / "settings.json").write_text(json.dumps(settings | quiet))
        parameters = {"uri": str(models.make(work, directory))}
        model = {"name": work.name, "implementation": "mlserver_runtime.OrtRuntime", "parameters": parameters}
        batching = {"max_batch_size": batch, "max_batch_time": 0.01} if batch else {}
        (place / "model-settings.json").write_text(json.dumps(model | batching))
        variables = {"PYTHONPATH": str(PEERS)}
        command = [str(python.with_name("mlserver")), "start", str(place)]
        server = Server(command, variables, place, directory / "logs" / "mlserver.log", port)
        return Contender("MLServer", work, form, server, "/v2/health/ready")

    return make


def triton(work: Work, form: Form, *, instances: int, batch: int) -> Maker:
    """Triton's C++ server; ONNX Runtime runs in its python backend, a process per instance."""

    def make(directory: Path) -> Contender:
        python = install.ensure("triton", directory)
        home = install.triton_home(python)
        repository = _triton_repository(work, directory, instances, batch)
        port = free_port()
        command = [str(home / "bin" / "tritonserver"), "--model-repository", str(repository)]
        command += ["--backend-directory", str(home / "backends"), "--http-address", "127.0.0.1"]
        command += ["--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false"]
        variables = {"PATH": f"{python.parent}:{os.environ['PATH']}"}
        server = Server(command, variables, directory, directory / "logs" / "triton.log", port)
        return Contender("Triton", work, form, server, "/v2/health/ready")

    return make


def _triton_repository(work: Work, directory: Path, instances: int, batch: int) -> Path:
    repository = directory / "served" / f"triton-{work.name}"
    shutil.rmtree(repository, ignore_errors=True)
    version = repository / work.name / "1"
    version.mkdir(parents=True)
    shutil.copy(PEERS / "triton_model.py", version / "model.py")
    shape = ", ".join(map(str, work.row_shape))
    text = f"""
backend: "python"
max_batch_size: {batch}
input [{{ name: "{work.input_name}", data_type: TYPE_{work.datatype}, dims: [{shape}] }}]
output [{{ name: "output", data_type: TYPE_FP32, dims: [-1] }}]
instance_group [{{ count: {instances}, kind: KIND_CPU }}]
parameters {{ key: "model", value: {{ string_value: "{models.make(work, directory)}" }} }}
"""
    dynamic = "dynamic_batching { }\n" if batch > 1 else ""
    (repository / work.name / "config.pbtxt").write_text(text + dynamic)
    return repository
