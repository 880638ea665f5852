"""The golden gate against the real model server, and against servers that get something wrong."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import onnx
import pytest

from pipeline.aws.models import PinnedModel
from pipeline.deployment.measuring import Job, measure_here
from pipeline.results import Target, Verdict
from pipeline.stages import publish
from pipeline.stages.golden import golden
from tests.pipeline.conftest import tiny_onnx

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(config, tmp_path) -> PinnedModel:
    """The tiny model as `publish` writes it."""
    manifest = publish.write_local(config, "tiny", tmp_path / "published")
    return PinnedModel(manifest.read_bytes(), (manifest.parent / "golden.npz").read_bytes())


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(model, tmp_path) -> Iterator[str]:
    """model_service as a process, with the model published."""
    port = free_port()
    environment = os.environ | {
        "PORT": str(port), "ADMIN_PORT": str(free_port()), "BIND_HOST": "127.0.0.1", "DRAIN_S": "0", "DEVICE": "cpu",
        "MODEL_DIR": str(tmp_path / "models"), "RELEASE_ID": "v2",
        "MODEL_MANIFEST_URI": (tmp_path / "published" / "manifest.json").as_uri(),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "model_service"], env=environment, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def judge(config, url: str, model: PinnedModel, release_id: str = "v2", headers: dict | None = None):
    target = Target(url, headers or {})
    return golden(
        config, service="tiny", target=target, release_id=release_id, model=model, measure=without_much_patience
    )


def without_much_patience(job: Job) -> dict[str, Any]:
    """The program as it is, told to wait for a port for a few seconds only."""
    return measure_here(replace(job, words=(*job.words, "--reach-within-s", "4")))


def test_the_real_server_passes_on_every_row(config, server, model):
    """All 40 rows, both outputs, in batches; the largest difference is a number of the result."""
    result = judge(config, server, model)

    assert (result.name, result.verdict) == ("golden", Verdict.PASS), result.reason
    assert result.numbers["rows"] == 40
    assert result.numbers["probabilities_max_difference"] < 1e-5


def test_predict_must_say_what_the_model_says(config, server, model):
    """`/predict` of the real server is asked too, and agrees."""
    assert "`/predict` gives the model's labels on 32 rows" in judge(config, server, model).reason


@pytest.fixture
def one_row_a_run(project) -> None:
    """The project's model was exported with a batch of one."""
    onnx.save(tiny_onnx(rows=1), project / "model.onnx")


@pytest.mark.usefixtures("one_row_a_run")
def test_a_model_that_takes_one_row_is_judged_row_by_row(config, server, model):
    """It passes on all 40 rows, at `/predict` too."""
    result = judge(config, server, model)

    assert (Verdict.PASS, 40) == (result.verdict, result.numbers["rows"]), result.reason
    assert "`/predict` gives the model's labels on 32 rows" in result.reason


@pytest.fixture
def named_classes(configure) -> None:
    """The project's classes have names."""
    configure(model__predict={"labels": ["red", "green", "blue"]})


@pytest.mark.usefixtures("named_classes")
def test_names_of_classes_pass_too(config, server, model):
    """`/predict` says `green` for 1, in each row."""
    reason = judge(config, server, model).reason

    assert "`/predict` gives each label a word of its own on 32 rows" in reason


def test_another_release_behind_the_port_fails(config, server, model):
    """Right answers of the wrong release are no evidence for the right one."""
    result = judge(config, server, model, release_id="v3")

    assert (result.verdict, result.reason) == (Verdict.FAIL, "release `v2` answered, not `v3`")


def test_another_model_behind_the_port_fails(config, server, model):
    """The version that the server tells must be the manifest's."""
    changed = PinnedModel(model.manifest_json + b"\n", model.golden_npz)

    result = judge(config, server, changed)

    assert result.verdict is Verdict.FAIL
    assert f"not {changed.version}" in result.reason


@dataclass
class Fake:
    """A server in which one thing is wrong."""

    version: str
    statuses: list[int] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def fake(model) -> Iterator[Fake]:
    fake = Fake(model.version)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"versions": [fake.version]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(fake.body)

        def answer(self, content: dict[str, Any]) -> None:
            fake.asked.append(f"{self.command} {self.path} {self.headers.get('X-Onnxship-Gate', '')}".strip())
            status = fake.statuses.pop(0) if fake.statuses else 200
            body = json.dumps(content if status == 200 else {"error": "no"}).encode()
            self.send_response(status)
            self.send_header("X-Onnxship-Release", "v2")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()


def test_wrong_answers_fail_with_the_output_that_is_wrong(config, fake, model):
    """Each output is judged by itself."""
    fake.body = {"outputs": [{"name": "label", "datatype": "INT64", "shape": [8], "data": [7] * 8}]}

    result = judge(config, fake.url, model)

    assert result.verdict is Verdict.FAIL
    assert "`label` differs in 40 of 40 values" in result.reason
    assert "`probabilities` is not among the answers" in result.reason


def test_an_answer_that_is_none_of_the_protocol_fails(config, fake, model):
    """200 with something else in it is a serving fault, and quoted."""
    fake.body = {"result": "fine"}

    result = judge(config, fake.url, model)

    assert result.verdict is Verdict.FAIL
    assert '{"result": "fine"}' in result.reason


@pytest.mark.parametrize("status", [403, 429])
def test_an_answer_of_the_edge_decides_nothing(config, fake, model, status):
    """403 and 429 come from in front of the model."""
    fake.statuses = [200, status]

    result = judge(config, fake.url, model)

    assert (result.verdict, str(status) in result.reason) == (Verdict.INCONCLUSIVE, True)


def test_a_refused_golden_input_fails_and_is_quoted(config, fake, model):
    """The model's server says 400: the release cannot serve what the user gave."""
    fake.statuses = [200, 400]

    result = judge(config, fake.url, model)

    assert result.verdict is Verdict.FAIL
    assert result.reason == '/v2/models/tiny/infer answered 400: {"error": "no"}'


def test_a_rule_that_has_not_reached_every_node_yet_is_waited_for(config, fake, model):
    """403 and 503 at first are what a listener that was just opened answers; the secret header is sent."""
    fake.statuses = [403, 503, 200]

    judge(config, fake.url, model, headers={"X-Onnxship-Gate": "sesame"})

    assert fake.asked[:3] == ["GET /v2/models/tiny sesame"] * 3
    assert fake.asked[3] == "POST /v2/models/tiny/infer sesame"


def test_a_listener_that_cannot_be_reached_decides_nothing(config, model):
    """After some time of trying the gate is inconclusive, and says why."""
    result = judge(config, "http://127.0.0.1:1", model)

    assert result.verdict is Verdict.INCONCLUSIVE
    assert "cannot be reached" in result.reason
