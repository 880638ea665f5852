"""The load test as a stage: a real process against real servers, judged, and ended with the run."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from pipeline.aws.models import PinnedModel
from pipeline.config import AgainstLive, Gate, Load
from pipeline.deployment.measuring import command
from pipeline.errors import ConfigError, PipelineError
from pipeline.results import Target, Verdict
from pipeline.stages import publish
from pipeline.stages.loadtest import as_gate, job, judged, loadtest, requests_of


@pytest.fixture
def model(config, tmp_path) -> PinnedModel:
    manifest = publish.write_local(config, "tiny", tmp_path / "published")
    return PinnedModel(manifest.read_bytes(), (manifest.parent / "golden.npz").read_bytes())


@dataclass
class Site:
    """A server of one release: what it wants to be told, how slow it is, and what it was told."""

    release: str = "v2"
    gate: str | None = "sesame"
    delay_s: float = 0.0
    status: int = 200
    url: str = ""
    bodies: list[dict] = field(default_factory=list)
    gates: set[str | None] = field(default_factory=set)


@pytest.fixture
def serve() -> Iterator[Callable[[Site], Site]]:
    """Start a site on a free port."""
    servers = []

    def start(site: Site) -> Site:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                site.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                site.gates.add(self.headers.get("X-Onnxship-Gate"))
                threading.Event().wait(site.delay_s)
                allowed = self.headers.get("X-Onnxship-Gate") == site.gate
                self.send_response(site.status if allowed else 403)
                self.send_header("X-Onnxship-Release", site.release)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        return site

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def new(serve) -> Site:
    """The new release v2, behind a secret header."""
    return serve(Site())


@pytest.fixture
def live(serve) -> Site:
    """Release v1, which serves."""
    return serve(Site(release="v1", gate=None))


SECRET = {"X-Onnxship-Gate": "sesame"}
LOAD = Load(rps=20, duration_s=1, min_requests=5, p99_ms=5000)
ALONE = Gate(load=LOAD, against_live=None)
BESIDE = Gate(load=LOAD, against_live=AgainstLive(rps=40, duration_s=2))


def test_a_good_server_passes_with_figures(config, model, new):
    """Requests, rate and percentiles are in the result, and as numbers in the gate."""
    target = Target(new.url, SECRET)
    tested = loadtest(config, service="tiny", target=target, model=model, release_id="v2", gate=ALONE)

    gate = as_gate(tested)
    assert (tested.verdict, tested.failures, tested.statuses) == (Verdict.PASS, 0, {"200": tested.requests})
    assert (gate.name, gate.verdict, gate.numbers["requests"]) == ("load", Verdict.PASS, tested.requests)
    assert 0 < tested.p50_ms <= tested.p95_ms <= tested.p99_ms


def test_beside_what_serves_the_gate_has_the_numbers_of_both(config, model, new, live):
    """Medians, tails and ratios with their bands; the gate's secret never reaches what serves."""
    target = Target(new.url, SECRET, live.url)
    gate = as_gate(loadtest(config, service="tiny", target=target, model=model, release_id="v2", gate=BESIDE))

    assert gate.verdict is Verdict.PASS
    assert {"new_p50_ms", "live_p50_ms", "p50_ratio", "p50_ratio_low", "p50_ratio_high", "new_p95_ms"} <= set(
        gate.numbers
    )
    assert gate.numbers["p50_ratio_low"] <= gate.numbers["p50_ratio"] <= gate.numbers["p50_ratio_high"]
    assert (new.gates, live.gates) == ({"sesame"}, {None})
    assert gate.numbers["requests"] > gate.numbers["compared_requests"] >= 50


def test_a_release_that_turned_slow_is_refused_in_figures(config, model, new, live):
    """Within its absolute limits, but far slower than what serves."""
    new.delay_s = 0.03
    target = Target(new.url, SECRET, live.url)

    tested = loadtest(config, service="tiny", target=target, model=model, release_id="v2", gate=BESIDE)

    assert tested.verdict is Verdict.FAIL
    assert tested.reason.startswith("slower than what serves: median 3")
    assert tested.against_live["p50_ratio_low"] > 1.5


def test_production_that_cannot_be_reached_decides_nothing_and_says_whose_fault_it_is(config, model, new):
    """No data about what serves is no pass, and the reason names both ways out."""
    target = Target(new.url, SECRET, "http://127.0.0.1:1")

    tested = loadtest(config, service="tiny", target=target, model=model, release_id="v2", gate=BESIDE)

    assert tested.verdict is Verdict.INCONCLUSIVE
    assert tested.reason.startswith("what serves gave 0 good answers to ")
    assert "at http://127.0.0.1:1, too few to compare the new release with (at least 50)" in tested.reason
    assert "edge.ingress_cidrs" in tested.details[-1]
    assert "gate.against_live: null" in tested.details[-1]


def test_nothing_is_compared_where_nothing_serves_or_it_is_switched_off(model):
    """The first release, a service on production itself, and `gate.against_live: null`."""
    first = job(Target("http://new"), model, BESIDE)
    off = job(Target("http://new", {}, "http://live"), model, ALONE)
    beside = job(Target("http://new", {}, "http://live"), model, BESIDE)

    assert [("--against" in each.words) for each in (first, off, beside)] == [False, False, True]
    assert first.timeout_s == off.timeout_s < beside.timeout_s


@pytest.mark.parametrize(
    ("live_url", "asks_for_keys", "is_shared"),
    [
        ("http://balancer:80", True, True),
        ("http://balancer:80", False, False),
        ("http://elsewhere:80", True, False),
    ],
)
def test_the_gates_secret_leaves_its_load_balancer_never(model, live_url, asks_for_keys, is_shared):
    """What serves is sent it where it stands for an API key; a listener elsewhere is not."""
    target = Target("http://balancer:9000", {"X-Onnxship-Gate": "sesame"}, live_url)

    assert is_shared == ("--headers-to-both" in job(target, model, BESIDE, asks_for_keys=asks_for_keys).words)


def part(requests: int = 1000, failures: int = 0, p99_ms: float = 20.0, release: str = "v2", **more) -> dict:
    """What the process writes about one listener."""
    good = requests - failures
    statuses = {status: count for status, count in (("200", good), ("500", failures)) if count}
    return {
        "requests": requests, "failures": failures, "rps": 50.0, "duration_s": 20.0, "p50_ms": 5.0, "p95_ms": 10.0,
        "p99_ms": p99_ms, "max_ms": p99_ms, "statuses": statuses, "releases": {release: requests},
        "first_failure": "500: boom" if failures else "", "times_ms": [5.0 + i % 7 / 10 for i in range(good)], **more,
    }  # fmt: skip


def verdict_of(**parts) -> tuple[Verdict, str, tuple[str, ...]]:
    """Verdict, reason and lines on what the process measured: `load`, `beside` and `against`."""
    facts = {"load": part(), "beside": part(200), "against": part(200, release="v1"), **parts}
    gate = Gate(load=Load(rps=50, duration_s=20, min_requests=500), against_live=AgainstLive())
    measured = {**facts["load"], "beside": facts["beside"], "against": facts["against"]}
    tested = judged(measured, Target("http://new", {}, "http://live"), gate, "v2")
    return tested.verdict, tested.reason, tested.details


def test_a_failure_beside_what_serves_counts_as_one():
    """Failed answers of the pairs are the new release's failures, too."""
    verdict, reason, _ = verdict_of(beside=part(200, failures=20))

    assert verdict is Verdict.FAIL
    assert reason == "20 of 1200 requests failed (1.67%; at most 0.10%); first failure: 500: boom"


def test_failures_that_both_have_may_be_shared():
    """A release that fails is refused whatever serves; where that fails as much, the reason says so."""
    verdict, _, lines = verdict_of(beside=part(200, failures=20), against=part(200, failures=18, release="v1"))

    assert verdict is Verdict.FAIL
    assert lines == (
        "what serves failed 18 of 200 of the same requests, too (the new release 20): the fault may be shared",
    )


def test_a_release_beyond_its_own_limit_is_refused_with_the_comparison_beside_it():
    """Slow, and so is what serves: the machine, not the release. The verdict stays."""
    verdict, reason, lines = verdict_of(load=part(p99_ms=300.0))

    assert verdict is Verdict.FAIL
    assert reason == "p99 300.0 ms of 1200 requests is above 200 ms"
    assert lines[0] == "not slower than what serves (median x1, p95 x1, p99 x1; at most x1.5)"
    assert lines[1].startswith("median 5.3 ms against 5.3 ms")


def test_a_release_that_production_already_serves_is_compared_with_nothing():
    """Its own answers on both sides would always be alike."""
    verdict, reason, _ = verdict_of(against=part(200, release="v2"))

    assert verdict is Verdict.INCONCLUSIVE
    assert reason.startswith("release `v2` answers at http://live already")


def test_failures_of_what_serves_are_said_and_do_not_refuse():
    """The rest of its answers is enough to compare with."""
    verdict, _, lines = verdict_of(against=part(200, failures=40, release="v1"))

    assert verdict is Verdict.PASS
    assert lines[-1] == "what serves failed 40 of 200 requests"


def test_the_gates_secret_shows_nowhere(tmp_path, model):
    """Not in the process list, which every user of the machine can read, and not in a printed target."""
    target = Target("http://lb.example:9000", {"X-Onnxship-Gate": "sesame"}, "http://lb.example")

    words = command(job(target, model, BESIDE), tmp_path, ("manifest", "golden", "headers"))

    assert "sesame" not in " ".join(words) + repr(target)


def test_answers_of_the_edge_or_of_another_release_never_pass(config, model, new):
    """Without the header the edge answers: inconclusive. Another release's answers: fail."""
    edge = loadtest(config, service="tiny", target=Target(new.url), model=model, gate=ALONE)
    other = loadtest(config, service="tiny", target=Target(new.url, SECRET), model=model, release_id="v3", gate=ALONE)

    assert (edge.verdict, other.verdict) == (Verdict.INCONCLUSIVE, Verdict.FAIL)
    assert "403" in edge.reason
    assert "`v2`" in other.reason


def test_requests_of_ones_own_are_sent_in_place_of_the_golden_rows(config, model, new):
    """For a service.py whose `preprocess` takes other bodies than `{"input": ...}`."""
    (config.directory / "requests.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    gate = Gate(load=LOAD.model_copy(update={"requests": "requests.jsonl"}), against_live=None)

    tested = loadtest(config, service="tiny", target=Target(new.url, SECRET), model=model, gate=gate)

    assert tested.verdict is Verdict.PASS
    assert {body["text"] for body in new.bodies} == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), ("\n\n", "holds no requests"), ('{"a": 1}\n{a}\n', "line 2, is no JSON")],
)
def test_a_file_of_requests_that_cannot_be_sent_is_a_mistake_of_the_configuration(config, content, said):
    """Found before a deployment begins, with the key that names it."""
    if content is not None:
        (config.directory / "requests.jsonl").write_text(content)

    with pytest.raises(ConfigError, match=said) as refused:
        requests_of(config, Load(requests="requests.jsonl"))

    assert "gate.load.requests" in refused.value.remedy


def test_a_load_test_that_cannot_start_is_said_with_its_output(config, model, new):
    """A golden file that cannot be read is no verdict, but an error with the process's own words."""
    broken_model = PinnedModel(model.manifest_json, b"no")

    with pytest.raises(PipelineError) as broken:
        loadtest(config, service="tiny", target=Target(new.url), model=broken_model, gate=ALONE)

    assert broken.value.details
    assert "onnxship loadtest" in broken.value.remedy


def test_an_interruption_ends_the_load(config, model, new):
    """Ctrl-C in the pipeline: the child is gone before the interruption goes on."""
    long = Gate(load=Load(rps=1, duration_s=600, min_requests=1))
    interruption = threading.Timer(2.0, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interruption.start()

    with pytest.raises(KeyboardInterrupt):
        loadtest(config, service="tiny", target=Target(new.url), model=model, gate=long)

    assert [child.cmdline() for child in psutil.Process().children() if "loadtests" in child.cmdline()] == []
