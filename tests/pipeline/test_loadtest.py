"""The load test as a stage: a real process against a real server, judged, and ended with the run."""

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from pipeline.aws.models import PinnedModel
from pipeline.config import Load
from pipeline.deployment.measuring import command
from pipeline.errors import PipelineError
from pipeline.results import Target, Verdict
from pipeline.stages import publish
from pipeline.stages.loadtest import as_gate, job, loadtest


@pytest.fixture
def model(config, tmp_path) -> PinnedModel:
    manifest = publish.write_local(config, "tiny", tmp_path / "published")
    return PinnedModel(manifest.read_bytes(), (manifest.parent / "golden.npz").read_bytes())


@pytest.fixture
def url() -> Iterator[str]:
    """A server of release v2 that knows `/predict`, behind a secret header."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            allowed = self.headers.get("X-Onnxship-Gate") == "sesame"
            self.send_response(200 if allowed and len(row) == 4 else 403)
            self.send_header("X-Onnxship-Release", "v2")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


LOAD = Load(rps=20, duration_s=1, min_requests=5, p99_ms=5000)


def test_a_good_server_passes_with_figures(config, model, url):
    """Requests, rate and percentiles are in the result, and as numbers in the gate."""
    tested = loadtest(
        config, service="tiny", target=Target(url, {"X-Onnxship-Gate": "sesame"}), model=model, release_id="v2",
        load=LOAD,
    )  # fmt: skip

    gate = as_gate(tested)
    assert (tested.verdict, tested.failures, tested.statuses) == (Verdict.PASS, 0, {"200": tested.requests})
    assert (gate.name, gate.verdict, gate.numbers["requests"]) == ("load", Verdict.PASS, tested.requests)
    assert 0 < tested.p50_ms <= tested.p95_ms <= tested.p99_ms


def test_the_gates_secret_shows_nowhere(tmp_path, model):
    """Not in the process list, which every user of the machine can read, and not in a printed target."""
    target = Target("http://lb.example:9000", {"X-Onnxship-Gate": "sesame"})

    words = command(job(target, model, LOAD, "predict"), tmp_path, ("manifest", "golden", "headers"))

    assert "sesame" not in " ".join(words) + repr(target)


def test_answers_of_the_edge_or_of_another_release_never_pass(config, model, url):
    """Without the header the edge answers: inconclusive. Another release's answers: fail."""
    edge = loadtest(config, service="tiny", target=Target(url), model=model, load=LOAD)
    headers = {"X-Onnxship-Gate": "sesame"}
    other = loadtest(config, service="tiny", target=Target(url, headers), model=model, release_id="v3", load=LOAD)

    assert (edge.verdict, other.verdict) == (Verdict.INCONCLUSIVE, Verdict.FAIL)
    assert "403" in edge.reason
    assert "`v2`" in other.reason


def test_a_load_test_that_cannot_start_is_said_with_its_output(config, model, url):
    """A golden file that cannot be read is no verdict, but an error with the process's own words."""
    with pytest.raises(PipelineError) as broken:
        loadtest(config, service="tiny", target=Target(url), model=PinnedModel(model.manifest_json, b"no"), load=LOAD)

    assert broken.value.details
    assert "onnxship loadtest" in broken.value.remedy


def test_an_interruption_ends_the_load(config, model, url):
    """Ctrl-C in the pipeline: the child is gone before the interruption goes on."""
    long = Load(rps=1, duration_s=600, min_requests=1)
    interruption = threading.Timer(2.0, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interruption.start()

    with pytest.raises(KeyboardInterrupt):
        loadtest(config, service="tiny", target=Target(url), model=model, load=long)

    assert [child.cmdline() for child in psutil.Process().children() if "loadtests" in child.cmdline()] == []
