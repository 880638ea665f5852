"""Judges a load test by its thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.results import Verdict
from pipeline.words import counted

ENOUGH_TO_BE_SLOW = 10


def judge_load(
    *, requests: int, failures: int, p99_ms: float, statuses: Mapping[str, int], releases: Mapping[str, int],
    release_id: str | None, min_requests: int, max_p99_ms: float, max_failure_ratio: float, first_failure: str = "",
) -> tuple[Verdict, str]:  # fmt: skip
    """A load test against its thresholds. Too few requests, or answers of the edge (403, 429), decide nothing.

    `releases` counts answers by the release that gave them; with `release_id` only its own may be among them.
    Failures lead the reason: where an alarm takes a failing release back, the old one's answers are a consequence.
    """
    ratio = failures / requests if requests else 1.0
    first = f"; first failure: {first_failure}" if first_failure else ""
    failed = (
        f"{failures} of {counted(requests, 'request')} failed ({ratio:.2%}; at most {max_failure_ratio:.2%}){first}"
    )
    edge = {status: statuses[status] for status in ("403", "429") if statuses.get(status)}
    if edge:
        said = ", ".join(f"{count} x {status}" for status, count in edge.items())
        return Verdict.INCONCLUSIVE, f"the edge answered instead of the model: {said}{first}"
    strangers = {name: count for name, count in releases.items() if release_id and name != release_id}
    if strangers:
        said = ", ".join(f"{count} by `{name or 'unknown'}`" for name, count in strangers.items())
        others = f"answers came from other releases than `{release_id}`: {said}"
        return Verdict.FAIL, f"{failed}; {others}" if failures else others
    # Many failures decide even when they kept the number of requests low: a server that hangs answers few.
    if requests and ratio > max_failure_ratio and failures > max_failure_ratio * min_requests:
        return Verdict.FAIL, failed
    # A slow server answers few requests: their slowness decides, and their number is no excuse.
    if p99_ms > max_p99_ms and requests >= min(min_requests, ENOUGH_TO_BE_SLOW):
        return Verdict.FAIL, f"p99 {p99_ms:.1f} ms of {counted(requests, 'request')} is above {max_p99_ms:g} ms{first}"
    if requests < min_requests:
        few = f"{counted(requests, 'request is', 'requests are')} too few to judge"
        return Verdict.INCONCLUSIVE, f"{few}; at least {min_requests}{first}"
    said = f"{counted(requests, 'request')}, {failures} failed, p99 {p99_ms:.1f} ms (at most {max_p99_ms:g}){first}"
    return Verdict.PASS, said
