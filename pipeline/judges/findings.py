"""Judges an image by what ECR's scan found in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Protocol

from pipeline.results import Finding, Scanned, Verdict
from pipeline.words import counted

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
