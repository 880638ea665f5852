"""Judges: data in, verdict out, nothing else. No data is never a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Protocol

import numpy as np

from pipeline.results import Finding, Quality, Scanned, Verdict
from pipeline.words import counted

Array = np.ndarray[Any, Any]

ENOUGH_TO_BE_SLOW = 10
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
# Basic scanning ends as COMPLETE, enhanced scanning goes on for ever and is ACTIVE once it has looked.
# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanStatus.html
SCANNED_STATUSES = ("COMPLETE", "ACTIVE")


class IgnoreRule(Protocol):
    """A finding that somebody decided to live with, until a date (YYYY-MM-DD, that day included)."""

    @property
    def id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def until(self) -> str: ...


def judge_findings(
    image_digest: str,
    status: str,
    findings: Sequence[Finding],
    *,
    fail_on: str,
    only_fixable: bool,
    ignore: Sequence[IgnoreRule],
    today: date,
) -> Scanned:
    """ECR's findings held against the policy: what is at least as severe as `fail_on` blocks.

    `only_fixable` lets findings through for which no fix exists; an `ignore` rule counts until its date. A scan
    that did not come to its end is never a pass.
    """
    counts = dict(Counter(finding.severity for finding in findings))
    if status not in SCANNED_STATUSES:
        reason = f"the scan is {status}; an image that was not scanned is not released"
        return Scanned(image_digest, status, Verdict.FAIL, reason, counts)
    valid = {rule.id: rule.reason for rule in ignore if date.fromisoformat(rule.until) >= today}
    severe = [f for f in findings if _rank(f.severity) >= _rank(fail_on) and (f.fixed_in or not only_fixable)]
    blocking = tuple(f for f in severe if f.id not in valid)
    ignored = tuple(replace(f, ignored_reason=valid[f.id]) for f in severe if f.id in valid)
    kind = f"{fail_on} or worse{', with a fix available' if only_fixable else ''}"
    said = f"{len(blocking)} of {counted(len(findings), 'finding')} {'blocks' if len(blocking) == 1 else 'block'}"
    reason = f"{said} ({kind}); {counted(len(ignored), 'is', 'are')} ignored by rule"
    return Scanned(image_digest, status, Verdict.FAIL if blocking else Verdict.PASS, reason, counts, blocking, ignored)


def _rank(severity: str) -> int:
    """INFORMATIONAL, UNDEFINED and UNTRIAGED rank below LOW: nobody has said yet that they matter."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def judge_quality(
    predictions: Array, expected: Array, *, metric: str, at_least: float, not_below: float | None = None
) -> tuple[Verdict, str, Quality]:
    """The metric over N predicted labels against N expected ones, held to a floor.

    `not_below` is a second floor: the live model's value less what may be lost.
    """
    rows = len(expected)
    right = int(np.count_nonzero(_labels(predictions) == _labels(expected))) if rows else 0
    quality = Quality(metric, right / rows if rows else 0.0, at_least, rows)
    said = f"{metric} {quality.value:.4f} on {counted(rows, 'row')}"
    if rows == 0 or len(predictions) != rows:
        return Verdict.INCONCLUSIVE, f"{counted(len(predictions), 'prediction')} for {counted(rows, 'label')}", quality
    if quality.value < at_least:
        return Verdict.FAIL, f"{said} is below {at_least:g}", quality
    if not_below is not None and quality.value < not_below:
        return Verdict.FAIL, f"{said} is below {not_below:.4f}, the live model's value less what may be lost", quality
    return Verdict.PASS, f"{said} is at least {at_least:g}", quality


def _labels(values: Array) -> Array:
    """Labels as text, one a row: 3, 3.0 and "3" are the same label, and so are True and 1."""
    flat = values.reshape(len(values))
    if flat.dtype.kind == "b" or (flat.dtype.kind == "f" and np.all(flat == np.round(flat))):
        flat = flat.astype(np.int64)
    return flat.astype(str)


def judge_parity(
    expected: Mapping[str, Array], answered: Mapping[str, Array], *, rtol: float, atol: float
) -> tuple[Verdict, str, dict[str, float | int | str]]:
    """The server's outputs against ONNX Runtime's own, each within |difference| <= atol + rtol * |expected|.

    Integers, booleans and text must be equal. An output that is missing fails; nothing expected is no data.
    """
    if not expected or any(len(values) == 0 for values in expected.values()):
        return Verdict.INCONCLUSIVE, "there are no recorded outputs to compare with", {}
    numbers: dict[str, float | int | str] = {}
    faults = []
    for name, values in expected.items():
        fault, largest = _difference(values, answered.get(name), rtol, atol)
        numbers |= {} if largest is None else {f"{name}_max_difference": largest}
        faults += [f"`{name}` {fault}"] if fault else []
    if faults:
        return Verdict.FAIL, "; ".join(faults), numbers
    rows = len(next(iter(expected.values())))
    equal = counted(len(expected), "output equals", "outputs equal")
    return Verdict.PASS, f"{equal} ONNX Runtime's own on {counted(rows, 'row')}", numbers


def _difference(expected: Array, answered: Array | None, rtol: float, atol: float) -> tuple[str, float | None]:
    """What is wrong with an output ("" when nothing is), and the largest difference when it is of floats."""
    if answered is None:
        return "is not among the answers", None
    if answered.shape != expected.shape:
        return f"has shape {list(answered.shape)}, not {list(expected.shape)}", None
    if expected.dtype.kind != "f":
        wrong = int(np.count_nonzero(answered.astype(str) != expected.astype(str)))
        return (f"differs in {wrong} of {expected.size} values" if wrong else ""), None
    if answered.dtype.kind not in "fiu":
        return f"holds {answered.dtype} values, not numbers", None
    close = np.isclose(answered.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)
    with np.errstate(invalid="ignore"):
        distances = np.abs(answered.astype(np.float64) - expected.astype(np.float64))
    largest = float(np.nanmax(distances)) if np.isfinite(distances).any() else 0.0
    wrong = int(np.count_nonzero(~close))
    return (f"differs in {wrong} of {expected.size} values, by up to {largest:g}" if wrong else ""), largest


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
