"""A process's life: starting, refusing to start, draining, stopping."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.model_service.conftest import REPOSITORY, Launch, Service, addition, send, write_manifest

BODY = b'{"input": {"a": [1, 2], "b": [3, 4]}}'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "source", addition())


def waiting_for(path: Path, function: str) -> str:
    """A service.py whose `function` returns only when `path` exists."""
    return f"""
import pathlib, time
def {function}:
    while not pathlib.Path({str(path)!r}).exists():
        time.sleep(0.01)
    return {{}}
"""


def test_lives_before_it_is_ready(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """While the model loads the process is live and not ready, and a request gets 503 and the reason."""
    service = launch(manifest, code=waiting_for(tmp_path / "go", "startup()")).wait_listening()
    assert service.get("/v2/health/live").status == 200
    for reply in (service.get("/v2/health/ready"), service.get("/v2/models/tiny"), service.post("/predict", BODY)):
        assert (503, "the model is still loading") == (reply.status, reply.json["error"])
    head = service.request("HEAD", "/v2/health/ready")
    assert (503, b"") == (head.status, head.body)
    assert service.get("/openapi.json").status == 200
    (tmp_path / "go").touch()
    service.wait_ready()
    assert service.post("/predict", BODY).status == 200


def test_the_health_check_tells_life(launch: Launch, manifest: Path) -> None:
    """`python -m model_service.health` exits 0 while the service lives, and 1 when it does not."""
    service = launch(manifest).wait_listening()
    command = [sys.executable, "-m", "model_service.health"]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY), "PORT": str(service.ports["port"])}
    assert 0 == subprocess.run(command, env=variables, check=False).returncode
    service.process.kill()
    service.process.wait()
    assert 1 == subprocess.run(command, env=variables, check=False).returncode
    assert b"" == subprocess.run(command, env=variables | {"PORT": ""}, check=False, capture_output=True).stderr


def test_the_health_check_needs_the_standard_library_alone() -> None:
    """The health check imports neither numpy nor a web framework: it runs every few seconds on a small task."""
    code = "import sys, model_service.health; print([m for m in ('numpy', 'fastapi', 'uvicorn') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "[]" == ran.stdout.strip()


@dataclass
class Callers:
    """Callers that send one request after the other, each over a connection of its own, until they are stopped."""

    service: Service
    stopped: threading.Event = field(default_factory=threading.Event)
    outcomes: list[int | str] = field(default_factory=list)

    def call(self) -> None:
        while not self.stopped.is_set():
            try:
                self.outcomes.append(self.service.request("POST", "/predict", BODY).status)
            except OSError as error:
                self.outcomes.append(repr(error))

    def start(self, count: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.call) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads


def test_no_request_fails_while_it_drains(launch: Launch, manifest: Path) -> None:
    """After SIGTERM readiness says no, but every request of the next seconds is answered; then the process exits 0."""
    service = launch(manifest, DRAIN_S="1.5").wait_ready()
    callers = Callers(service)
    threads = callers.start(4)
    service.wait_until(lambda: len(callers.outcomes) > 20, "answered")
    service.process.send_signal(signal.SIGTERM)
    service.wait_until(lambda: service.get("/v2/health/ready").status == 503, "not ready")
    seen = len(callers.outcomes)
    service.wait_until(lambda: len(callers.outcomes) > seen + 50, "answered while draining")
    assert service.get("/v2/health/live").status == 200
    assert "close" == service.get("/v2/health/live").headers["connection"]
    callers.stopped.set()  # as a load balancer does that has seen `not ready`
    for thread in threads:
        thread.join()
    assert {200} == set(callers.outcomes)
    assert 0 == service.process.wait(30)


def test_finishes_what_is_in_flight(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """A request that was taken before the end is answered, although no new connection is accepted any more."""
    service = launch(manifest, code=waiting_for(tmp_path / "go", "postprocess(outputs)")).wait_ready()
    statuses: list[int] = []
    in_flight = threading.Thread(target=lambda: statuses.append(service.request("POST", "/predict", BODY).status))
    in_flight.start()
    service.wait_until(lambda: 'request_count{model="tiny"' in service.metrics(), "in flight")
    service.process.send_signal(signal.SIGTERM)
    service.wait_until(lambda: refuses_connections(service), "stopped accepting")
    (tmp_path / "go").touch()
    in_flight.join()
    assert [200] == statuses
    assert 0 == service.process.wait(30)


def test_does_not_wait_for_ever(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """A request that never ends is given up after SHUTDOWN_S, and the process still exits 0."""
    code = waiting_for(tmp_path / "never", "postprocess(outputs)")
    service = launch(manifest, code=code, SHUTDOWN_S="1").wait_ready()
    outcome: list[bool] = []

    def call() -> None:
        try:
            outcome.append(service.request("POST", "/predict", BODY).status == 200)
        except OSError:
            outcome.append(False)

    caller = threading.Thread(target=call)
    caller.start()
    service.wait_until(lambda: 'request_count{model="tiny"' in service.metrics(), "in flight")
    assert 0 == service.stop()
    caller.join()
    assert [False] == outcome


def test_a_second_signal_stops_at_once(launch: Launch, manifest: Path) -> None:
    """Whoever sends SIGTERM twice does not wait for the drain."""
    service = launch(manifest, DRAIN_S="600").wait_ready()
    service.process.send_signal(signal.SIGTERM)
    service.wait_until(lambda: service.get("/v2/health/ready").status == 503, "draining")
    assert 128 + signal.SIGTERM == service.stop()


def test_ends_with_the_process_that_holds_its_pipe(launch: Launch, manifest: Path) -> None:
    """When the other end of EXIT_WITH_FD is closed, the service stops as by SIGTERM; bytes in it mean nothing."""
    ours, holders = os.pipe()
    service = launch(manifest, pass_fds=(ours,), EXIT_WITH_FD=str(ours)).wait_ready()
    os.close(ours)
    os.write(holders, b"still here")
    assert service.get("/v2/health/ready").status == 200
    os.close(holders)
    assert 0 == service.process.wait(30)
    assert "the process that started this one is gone" in str(service.log())


def test_a_pipe_that_is_none_is_named(launch: Launch, manifest: Path) -> None:
    """A number that names no open file is refused with the variable."""
    service = launch(manifest, EXIT_WITH_FD="1000")
    assert 1 == service.process.wait(30)
    assert "EXIT_WITH_FD=1000 cannot be read" in service.log()[-1]["message"]


def test_can_be_stopped_while_it_loads(launch: Launch, manifest: Path, tmp_path: Path) -> None:
    """SIGTERM during a load that hangs ends the process: nobody was promised an answer yet."""
    service = launch(manifest, code=waiting_for(tmp_path / "never", "startup()"), DRAIN_S="600").wait_listening()
    assert 0 == service.stop()


def test_a_model_that_cannot_be_served_ends_the_process(launch: Launch, tmp_path: Path) -> None:
    """A failed load exits 1, and the log's last line is one critical message that names the cause."""
    service = launch(write_manifest(tmp_path, b"this is not a model"), RELEASE_ID="r-bad")
    assert 1 == service.process.wait(30)
    last = service.log()[-1]
    assert ("critical", "r-bad") == (last["level"], last["release"])
    assert "the service cannot start: model.onnx is not an ONNX model" in last["message"]
    assert 1 == len([line for line in service.log() if line["level"] in ("error", "critical")])


def test_wrong_settings_end_the_process_before_anything_else(launch: Launch) -> None:
    """A wrong variable exits 2 with its name."""
    service = launch("s3://bucket/manifest.json", PORT="-1")
    assert 2 == service.process.wait(30)
    lines = service.log()
    assert 1 == len(lines)
    for words in ("PORT='-1'", "MODEL_MANIFEST_VERSION_ID is missing", "MODEL_MANIFEST_SHA256 is missing"):
        assert words in lines[0]["message"]


def test_a_port_in_use_is_named(launch: Launch, manifest: Path) -> None:
    """A port that is taken ends the process with its number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = launch(manifest, PORT=str(port))
        assert 1 == service.process.wait(30)
    assert f"cannot listen on 127.0.0.1 port {port}" in service.log()[-1]["message"]


def test_golden_inputs_that_do_not_run_end_the_process(launch: Launch, tmp_path: Path) -> None:
    """A model that does not run on its own golden inputs never becomes ready."""
    golden = {"a": np.zeros((32, 3), np.float32), "b": np.zeros((32, 2), np.float32)}
    service = launch(write_manifest(tmp_path, addition(), golden=golden))
    assert 1 == service.process.wait(30)
    assert "the golden inputs cannot be used: input `a` has shape [2, 3]" in service.log()[-1]["message"]


def refuses_connections(service: Service) -> bool:
    try:
        send(service.ports["port"], "GET", "/v2/health/live")
    except OSError:
        return True
    time.sleep(0.01)
    return False
