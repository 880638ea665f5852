"""Judges: data in, verdict out, nothing else. No data is never a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Protocol

import numpy as np

from pipeline.results import Finding, Quality, Scanned, Verdict

Array = np.ndarray[Any, Any]

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
    reason = f"{len(blocking)} of {len(findings)} findings block ({kind}); {len(ignored)} are ignored by rule"
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
    said = f"{metric} {quality.value:.4f} on {rows} rows"
    if rows == 0 or len(predictions) != rows:
        return Verdict.INCONCLUSIVE, f"{len(predictions)} predictions for {rows} labels", quality
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
