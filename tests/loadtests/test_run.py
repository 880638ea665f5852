"""The load test as the pipeline runs it: a process, a real server, a result file."""

import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtests.measuring import thinned
from loadtests.pacing import Pace, offset_s
from tests.loadtests.conftest import Site, serving

ROOT = Path(__file__).parents[2]


def words(site, model_files, output: Path, *more: str) -> list[str]:
    manifest, golden = model_files
    return [
        sys.executable, "-m", "loadtests", "--url", site.url, "--manifest", str(manifest), "--golden", str(golden),
        "--rps", "20", "--duration-s", "2", "--warmup-s", "1", "--output", str(output), *more,
    ]  # fmt: skip


def run(site, model_files, tmp_path: Path, *more: str) -> dict:
    output = tmp_path / "result.json"
    ended = subprocess.run(words(site, model_files, output, *more), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(output.read_text())


def test_every_answer_after_the_warm_up_is_counted(site, model_files, tmp_path):
    """Requests, statuses and releases add up, the rate is the one asked for, and the warm-up is left out."""
    result = run(site, model_files, tmp_path, "--header", "X-Onnxship-Gate: open sesame")

    assert result["requests"] == result["statuses"]["200"] == result["releases"]["v1"]
    assert result["requests"] == pytest.approx(40, abs=12)
    assert len(site.asked) > result["requests"]
    assert (result["failures"], result["first_failure"]) == (0, "")
    assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"] <= result["max_ms"]
    assert {path for path, _, _ in site.asked} == {"/predict"}
    assert {gate for _, _, gate in site.asked} == {"open sesame"}


def test_headers_may_come_from_a_file(site, model_files, tmp_path):
    """So that a secret among them stands on no command line."""
    headers = tmp_path / "headers.json"
    headers.write_text(json.dumps({"X-Onnxship-Gate": "open sesame"}))

    run(site, model_files, tmp_path, "--headers", str(headers))

    assert {gate for _, _, gate in site.asked} == {"open sesame"}


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    path = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path,
         "-out", path.with_suffix(".crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest.mark.parametrize("trusted", [False, True])
def test_the_secret_goes_only_to_a_server_whose_certificate_is_trusted(
    certificate, model_files, tmp_path, monkeypatch, trusted
):
    """Without trust nothing is sent, and every request is a failure."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(Site(), context) as site:
        result = run(site, model_files, tmp_path, "--header", "X-Onnxship-Gate: open sesame")

    assert (trusted, not trusted) == (result["failures"] == 0, result["failures"] == result["requests"] > 0)
    assert ({"open sesame"} if trusted else set()) == {gate for _, _, gate in site.asked}
    assert trusted or "CERTIFICATE_VERIFY_FAILED" in result["first_failure"]


def test_bodies_are_the_distinct_golden_rows(site, model_files, tmp_path):
    """Each golden row is sent as `/predict` takes it, and all of them take turns."""
    run(site, model_files, tmp_path)

    sent = {tuple(json.loads(body)["input"]) for _, body, _ in site.asked}
    assert sent == {(float(n), float(n + 1), float(n + 2)) for n in range(0, 30, 3)}


def test_infer_speaks_the_open_inference_protocol(site, model_files, tmp_path):
    """With `--kind infer` a row is a tensor of shape [1, 3] at the model's own path."""
    run(site, model_files, tmp_path, "--kind", "infer")

    path, body, _ = site.asked[0]
    assert path == "/v2/models/toy/infer"
    (tensor,) = json.loads(body)["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("X", "FP32", [1, 3])
    assert len(tensor["data"]) == 3


def test_failures_are_counted_and_the_first_one_is_quoted(site, model_files, tmp_path):
    """A server that answers 503 fails every request, and the result says what it said."""
    site.status = 503

    result = run(site, model_files, tmp_path)

    assert result["failures"] == result["requests"] == result["statuses"]["503"] > 0
    assert result["first_failure"] == '503: {"error": "no"}'


def test_a_server_that_is_away_is_a_result_too(site, model_files, tmp_path):
    """Connections refused are failures of status `error`; the exit code stays 0."""
    site.url = "http://127.0.0.1:1"

    result = run(site, model_files, tmp_path)

    assert result["failures"] == result["requests"] == result["statuses"]["error"] > 0
    assert result["releases"] == {}
    assert result["first_failure"].startswith("no answer: ")


def compared(site, live, model_files, tmp_path: Path, *more: str) -> dict:
    """Both measured: 20 pairs a second for 2 s, after a load of 2 s."""
    against = ("--against", live.url, "--against-rps", "20", "--against-s", "2")
    return run(site, model_files, tmp_path, *against, *more)


def test_both_listeners_get_the_same_requests_one_right_after_the_other(site, live, model_files, tmp_path):
    """The same bodies to both, in turns; the load before them is the new release's alone."""
    result = compared(site, live, model_files, tmp_path)

    begin = live.asked_at[0] - 0.1
    order = sorted([(at, "new") for at in site.asked_at if at > begin] + [(at, "live") for at in live.asked_at])
    longest = max(len(list(turn)) for _, turn in itertools.groupby(name for _, name in order))
    assert longest < len(order) / 4
    assert {body for _, body, _ in live.asked} == {body for _, body, _ in site.asked}
    assert result["against"]["requests"] == pytest.approx(result["beside"]["requests"], abs=2)
    assert result["against"]["requests"] == pytest.approx(40, abs=12)
    assert (result["beside"]["releases"], result["against"]["releases"]) == (
        {"v1": result["beside"]["requests"]},
        {"v0": result["against"]["requests"]},
    )


def test_the_warm_up_counts_for_both(site, live, model_files, tmp_path):
    """Pairs are sent before they are measured."""
    result = compared(site, live, model_files, tmp_path)

    assert len(live.asked) > result["against"]["requests"]
    assert len(site.asked) > result["requests"] + result["beside"]["requests"]


def test_the_times_of_good_answers_are_in_the_result(site, live, model_files, tmp_path):
    """One each, in both parts; the slower server's are the longer ones."""
    site.delay_s = 0.02

    result = compared(site, live, model_files, tmp_path)

    for part in (result, result["beside"], result["against"]):
        assert len(part["times_ms"]) == part["requests"] - part["failures"] > 0
    assert min(result["beside"]["times_ms"]) >= 20
    assert result["against"]["p50_ms"] < result["beside"]["p50_ms"]


def test_neither_listener_gets_the_others_headers(site, live, model_files, tmp_path):
    """The gate's secret goes to the new release alone, unless it stands for an API key."""
    (tmp_path / "new.json").write_text(json.dumps({"X-Onnxship-Gate": "sesame"}))

    compared(site, live, model_files, tmp_path, "--headers", str(tmp_path / "new.json"))
    assert ({"sesame"}, {""}) == tuple({gate for _, _, gate in each.asked} for each in (site, live))

    live.asked.clear()
    compared(site, live, model_files, tmp_path, "--headers", str(tmp_path / "new.json"), "--headers-to-both")
    assert {"sesame"} == {gate for _, _, gate in live.asked}


def test_a_redirect_takes_the_secret_nowhere(site, live, model_files, tmp_path):
    """It is an answer that is no success; nothing is sent to where it points."""
    site.redirect_to = live.url

    result = run(site, model_files, tmp_path, "--header", "X-Onnxship-Gate: open sesame")

    assert result["failures"] == result["requests"] == result["statuses"]["307"] > 0
    assert live.asked == []


def test_what_serves_may_be_away(site, model_files, tmp_path):
    """Its refused connections are its own failures; the new release's answers are measured all the same."""
    away = SimpleNamespace(url="http://127.0.0.1:1")

    result = compared(site, away, model_files, tmp_path)

    assert result["against"]["failures"] == result["against"]["requests"] > 0
    assert result["against"]["first_failure"].startswith("no answer: ")
    assert result["beside"]["failures"] == 0
    assert len(result["beside"]["times_ms"]) > 0


def test_a_file_of_requests_is_sent_in_place_of_the_golden_rows(site, model_files, tmp_path):
    """One body a line, as it stands; empty lines are none."""
    (tmp_path / "requests.jsonl").write_text('{"text": "a"}\n\n{"text":"b"}\n')

    run(site, model_files, tmp_path, "--requests", str(tmp_path / "requests.jsonl"))

    assert {b'{"text": "a"}', b'{"text":"b"}'} == {body for _, body, _ in site.asked}


@pytest.mark.parametrize(("count", "at_most", "kept"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 4])])
def test_times_are_thinned_evenly(count, at_most, kept):
    """Every part of the run stays, in its order."""
    assert thinned(list(range(count)), at_most) == kept


def test_the_load_ends_with_the_process_that_asked_for_it(site, model_files, tmp_path):
    """When its parent is killed, the load test ends by itself and writes no result."""
    output = tmp_path / "result.json"
    command = words(site, model_files, output)
    command[command.index("--duration-s") + 1] = "60"
    program = f"import subprocess; p = subprocess.Popen({command!r}); print(p.pid, flush=True); p.wait()"
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(starter.stdout.readline())
    while not site.asked:
        time.sleep(0.1)

    starter.send_signal(signal.SIGKILL)
    starter.wait()

    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the load test outlived its parent")
    assert not output.exists()


@pytest.mark.parametrize("users", [2, 5, 10, 25, 100])
def test_users_that_start_together_take_turns(users):
    """Their first turns lie within half a second, two a second each, and no gap is three times the mean."""
    offsets = sorted(offset_s(index, 2.0) for index in range(users))

    gaps = [after - before for before, after in itertools.pairwise([*offsets, 0.5])]
    assert offsets[0] == 0
    assert 0 < min(gaps) <= max(gaps) < 3 * 0.5 / users


def test_a_turn_that_comes_late_is_not_made_up_for():
    """The rate holds; after a slow answer the next request goes at once, and no burst follows."""
    pace = Pace(turns_per_s=2.0, due_s=10.0)

    waits = [pace.wait_s(now_s) for now_s in (10.1, 10.6, 12.3, 12.4)]

    assert waits == pytest.approx([0.4, 0.4, 0.0, 0.4])
