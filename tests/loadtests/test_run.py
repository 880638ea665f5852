"""The load test as the pipeline runs it: a process, a real server, a result file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
