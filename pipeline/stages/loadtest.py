"""Load-tests a listener with Locust, in a process of its own, and holds what it measured to the thresholds.

gevent patches Python's sockets when it is imported, so Locust never runs inside the pipeline.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.aws.models import PinnedModel
from pipeline.config import Config, Load
from pipeline.errors import AwsError
from pipeline.judges import judge_load
from pipeline.results import GateResult, LoadTested, Target

NAME = "load"
WARMUP_S = 2
GRACE_S = 60
STOP_S = 5
ROOT = Path(__file__).parents[2]


def loadtest(
    config: Config, *, service: str, target: Target, model: PinnedModel, release_id: str | None = None,
    kind: str = "predict", load: Load | None = None,
) -> LoadTested:  # fmt: skip
    """Send the configured load to `target` and judge it; with `release_id` only that release may answer.

    An interruption kills the load at once.
    """
    load = load or config.services[service].gate.load
    with tempfile.TemporaryDirectory(prefix="onnxship-load-") as scratch:
        folder = Path(scratch)
        (folder / "manifest.json").write_bytes(model.manifest_json)
        (folder / "golden.npz").write_bytes(model.golden_npz)
        (folder / "headers.json").write_text(json.dumps(dict(target.headers)))  # a folder of our own, mode 0700
        _run(command(folder, target, load, kind), load.duration_s + WARMUP_S + GRACE_S)
        measured = json.loads((folder / "result.json").read_text())
    return judged(measured, target.url, load, release_id)


def command(folder: Path, target: Target, load: Load, kind: str) -> list[str]:
    """The command line of the load test's process. The gate's secret is not on it: process lists show it to all."""
    return [
        sys.executable, "-m", "loadtests", "--url", target.url, "--kind", kind,
        "--manifest", str(folder / "manifest.json"), "--golden", str(folder / "golden.npz"),
        "--rps", str(load.rps), "--duration-s", str(load.duration_s), "--warmup-s", str(WARMUP_S),
        "--output", str(folder / "result.json"), "--headers", str(folder / "headers.json"),
    ]  # fmt: skip


def judged(measured: dict[str, Any], url: str, load: Load, release_id: str | None) -> LoadTested:
    """What the process measured, with the verdict."""
    verdict, reason = judge_load(
        requests=measured["requests"], failures=measured["failures"], p99_ms=measured["p99_ms"],
        statuses=measured["statuses"], releases=measured["releases"], release_id=release_id,
        min_requests=load.min_requests, max_p99_ms=load.p99_ms, max_failure_ratio=load.max_failure_ratio,
        first_failure=measured.get("first_failure") or "",
    )  # fmt: skip
    return LoadTested(
        verdict=verdict,
        reason=reason,
        url=url,
        requests=measured["requests"],
        failures=measured["failures"],
        rps=measured["rps"],
        p50_ms=measured["p50_ms"],
        p95_ms=measured["p95_ms"],
        p99_ms=measured["p99_ms"],
        duration_s=measured["duration_s"],
        statuses=measured["statuses"],
    )


def as_gate(tested: LoadTested) -> GateResult:
    """The load test as one of the gates of a release."""
    numbers: dict[str, float | int | str] = {
        "requests": tested.requests, "failures": tested.failures, "rps": tested.rps, "p50_ms": tested.p50_ms,
        "p95_ms": tested.p95_ms, "p99_ms": tested.p99_ms, "duration_s": tested.duration_s,
    }  # fmt: skip
    return GateResult(NAME, tested.verdict, tested.reason, numbers)


def _run(words: list[str], timeout_s: float) -> None:
    paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    child = subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,  # a Ctrl-C reaches the pipeline alone, which ends the load itself
    )  # fmt: skip
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise _broken(f"did not end within {timeout_s:.0f} s", "") from None
    finally:
        _end(child)
    if child.returncode != 0:
        raise _broken(f"ended with exit code {child.returncode}", said)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _broken(how: str, said: str) -> AwsError:
    return AwsError(
        f"The load test {how}; nothing was measured.",
        "install it with `pip install onnxship[loadtest]`, or run `onnxship loadtest` alone to see why",
        details=tuple(said.strip().splitlines()[-8:]),
    )
