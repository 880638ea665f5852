"""Load-tests a listener with Locust, in a process of its own, and judges what it measured.

The load is held to the thresholds of `gate.load`. Where a release serves meanwhile, the same requests then go to both
at one rate, in pairs, and the new one is held to what serves (`gate.against_live`).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from pipeline.aws.models import PinnedModel
from pipeline.config import Config, Gate, Load
from pipeline.deployment.measuring import Job, Measure, measure_here
from pipeline.errors import ConfigError
from pipeline.judges import Arm, judge_beside_live, judge_load, words_on_shared_failures
from pipeline.results import GateResult, LoadTested, Target, Verdict

NAME = "load"
WARMUP_S = 2
GRACE_S = 60
MAX_REQUESTS_BYTES = 16 * 1024 * 1024
Measured = dict[str, Any]
Numbers = dict[str, float | int | str]


def loadtest(
    config: Config, *, service: str, target: Target, model: PinnedModel, release_id: str | None = None,
    gate: Gate | None = None, measure: Measure = measure_here,
) -> LoadTested:  # fmt: skip
    """Send the configured load to `target` and judge it; with `release_id` only that release may answer.

    `measure` runs Locust, here or in the VPC. An interruption ends the load at once.
    """
    settings = config.services[service]
    gate = gate or settings.gate
    asked = job(target, model, gate, requests_of(config, gate.load), asks_for_keys=bool(settings.api_keys_secret_arn))
    measured = measure(asked)
    return judged(measured, target, gate, release_id)


def requests_of(config: Config, load: Load) -> bytes:
    """The file of requests to send in place of the golden rows, checked line by line; empty when there is none."""
    if load.requests is None:
        return b""
    path, key = config.file(load.requests), "services.<name>.gate.load.requests"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", f"correct {key} in onnxship.yaml") from error
    if not content.strip() or len(content) > MAX_REQUESTS_BYTES:
        said = "holds no requests" if not content.strip() else f"is larger than {MAX_REQUESTS_BYTES >> 20} MiB"
        raise ConfigError(f"{path} {said}.", f"give {key} a file with one JSON body a line")
    for number, line in enumerate(content.splitlines(), 1):
        try:
            json.loads(line or b"null")
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {number}, is no JSON: {error}.", f"{key} takes one JSON body a line"
            ) from error
    return content


def job(
    target: Target, model: PinnedModel, gate: Gate, requests: bytes = b"", *, asks_for_keys: bool = False
) -> Job:  # fmt: skip
    """The load test as a job: what Locust is told, and how long it may take.

    What serves is sent the target's secret headers only where it `asks_for_keys`, for which they stand, and only behind
    the same load balancer.
    """
    load = gate.load
    words = [
        "--url", target.url, "--kind", load.kind, "--rps", str(load.rps), "--duration-s", str(load.duration_s),
        "--warmup-s", str(WARMUP_S),
    ]  # fmt: skip
    seconds = WARMUP_S + load.duration_s
    if target.live_url and (beside := gate.against_live):
        words += ["--against", target.live_url, "--against-rps", str(beside.rps)]
        words += ["--against-s", str(beside.duration_s)]
        if asks_for_keys and urlsplit(target.live_url).hostname == urlsplit(target.url).hostname:
            words.append("--headers-to-both")
        seconds += WARMUP_S + beside.duration_s
    files = {"requests": requests} if requests else {}
    return Job("loadtests", tuple(words), target, model, seconds + GRACE_S, files)


def judged(measured: Measured, target: Target, gate: Gate, release_id: str | None) -> LoadTested:
    """What the process measured, with the verdict of the thresholds and of the comparison."""
    load, answers = gate.load, _all_answers(measured)
    verdict, reason = judge_load(
        **answers, p99_ms=measured["p99_ms"], release_id=release_id, min_requests=load.min_requests,
        max_p99_ms=load.p99_ms, max_failure_ratio=load.max_failure_ratio,
    )  # fmt: skip
    numbers: Numbers = {}
    details: tuple[str, ...] = ()
    if gate.against_live and "against" in measured:
        new, live = _arm(measured["beside"]), _arm(measured["against"])
        compared = judge_beside_live(
            new, live, live_url=target.live_url, release_id=release_id, max_ratio=gate.against_live.max_latency_ratio
        )
        numbers, details = compared.numbers, compared.details
        if verdict is Verdict.PASS:
            verdict = compared.verdict
            reason = f"{reason}; {compared.reason}" if verdict is Verdict.PASS else compared.reason
        else:
            is_slow = measured["p99_ms"] > load.p99_ms and compared.verdict is not Verdict.INCONCLUSIVE
            shared = words_on_shared_failures(new, live)
            details = (compared.reason, *details) if is_slow else (shared,) if shared else ()
    return LoadTested(
        verdict=verdict, reason=reason, url=target.url, requests=answers["requests"], failures=answers["failures"],
        rps=measured["rps"], p50_ms=measured["p50_ms"], p95_ms=measured["p95_ms"], p99_ms=measured["p99_ms"],
        duration_s=measured["duration_s"], statuses=answers["statuses"], against_live=numbers, details=details,
    )  # fmt: skip


def _all_answers(measured: Measured) -> Measured:
    """Counts of all that the new release was asked, by the load and beside what serves."""
    parts = [measured, measured["beside"]] if "beside" in measured else [measured]
    failed = (part["first_failure"] for part in parts if part["first_failure"])
    return {
        **{key: sum(part[key] for part in parts) for key in ("requests", "failures")},
        **{key: dict(sum((Counter(part[key]) for part in parts), Counter())) for key in ("statuses", "releases")},
        "first_failure": next(failed, ""),
    }


def _arm(part: Measured) -> Arm:
    return Arm(part["times_ms"], part["requests"], part["failures"], part["releases"], part["first_failure"])


def as_gate(tested: LoadTested) -> GateResult:
    """The load test as one of the gates of a release."""
    numbers: Numbers = {
        "requests": tested.requests, "failures": tested.failures, "rps": tested.rps, "p50_ms": tested.p50_ms,
        "p95_ms": tested.p95_ms, "p99_ms": tested.p99_ms, "duration_s": tested.duration_s,
    }  # fmt: skip
    return GateResult(NAME, tested.verdict, tested.reason, numbers | tested.against_live, tested.details)
