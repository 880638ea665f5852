"""Load-tests a listener with Locust, in a process of its own, and holds what it measured to the thresholds."""

from __future__ import annotations

from typing import Any

from pipeline.aws.models import PinnedModel
from pipeline.config import Config, Load
from pipeline.deployment.measuring import Job, Measure, measure_here
from pipeline.judges import judge_load
from pipeline.results import GateResult, LoadTested, Target

NAME = "load"
WARMUP_S = 2
GRACE_S = 60


def loadtest(
    config: Config, *, service: str, target: Target, model: PinnedModel, release_id: str | None = None,
    kind: str = "predict", load: Load | None = None, measure: Measure = measure_here,
) -> LoadTested:  # fmt: skip
    """Send the configured load to `target` and judge it; with `release_id` only that release may answer.

    `measure` runs Locust, here or in the VPC. An interruption ends the load at once.
    """
    load = load or config.services[service].gate.load
    return judged(measure(job(target, model, load, kind)), target.url, load, release_id)


def job(target: Target, model: PinnedModel, load: Load, kind: str) -> Job:
    """The load test as a job: what Locust is told, and how long it may take."""
    words = (
        "--url", target.url, "--kind", kind, "--rps", str(load.rps), "--duration-s", str(load.duration_s),
        "--warmup-s", str(WARMUP_S),
    )  # fmt: skip
    return Job("loadtests", words, target, model, load.duration_s + WARMUP_S + GRACE_S)


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
