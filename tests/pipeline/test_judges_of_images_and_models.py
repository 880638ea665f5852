"""The judges of scan findings and of model quality."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from pipeline.config import IgnoredFinding
from pipeline.judges import judge_findings, judge_quality
from pipeline.results import Finding, Scanned, Verdict

TODAY = date(2026, 11, 21)


def finding(name: str = "CVE-1", severity: str = "HIGH", fixed_in: str = "2.0") -> Finding:
    return Finding(name, severity, "openssl 1.0", fixed_in)


def judged(*findings: Finding, status: str = "COMPLETE", ignore: str = "", fixable: bool = True) -> Scanned:
    rules = [IgnoredFinding(id="CVE-1", reason="not reachable", until=ignore)] if ignore else []
    return judge_findings("sha256:0", status, findings, fail_on="HIGH", only_fixable=fixable, ignore=rules, today=TODAY)


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        ("CRITICAL", Verdict.FAIL),
        ("HIGH", Verdict.FAIL),
        ("MEDIUM", Verdict.PASS),
        ("LOW", Verdict.PASS),
        ("INFORMATIONAL", Verdict.PASS),
        ("UNDEFINED", Verdict.PASS),
        ("UNTRIAGED", Verdict.PASS),
    ],
)
def test_severity_decides(severity: str, verdict: Verdict) -> None:
    """At `fail_on` and above a finding blocks, below it does not."""
    assert judged(finding(severity=severity)).verdict is verdict


@pytest.mark.parametrize(("fixable", "verdict"), [(True, Verdict.PASS), (False, Verdict.FAIL)])
def test_what_cannot_be_fixed_blocks_only_when_asked(fixable: bool, verdict: Verdict) -> None:
    """`only_fixable` lets a finding without a fix through."""
    assert judged(finding(fixed_in=""), fixable=fixable).verdict is verdict


@pytest.mark.parametrize(
    ("until", "verdict"),
    [("2026-11-22", Verdict.PASS), ("2026-11-21", Verdict.PASS), ("2026-11-20", Verdict.FAIL)],
)
def test_an_ignore_rule_counts_until_its_date(until: str, verdict: Verdict) -> None:
    """The last day is included; after it the finding blocks again."""
    assert judged(finding(), ignore=until).verdict is verdict


def test_an_ignored_finding_stays_visible_with_its_reason() -> None:
    """What was let through by a rule is listed with the reason that somebody gave."""
    scanned = judged(finding(), finding("CVE-2", "LOW"), ignore="2027-01-01")

    assert [(f.id, f.ignored_reason) for f in scanned.ignored] == [("CVE-1", "not reachable")]
    assert scanned.counts == {"HIGH": 1, "LOW": 1}


@pytest.mark.parametrize(
    "status",
    ["FAILED", "UNSUPPORTED_IMAGE", "SCAN_ELIGIBILITY_EXPIRED", "IMAGE_SIZE_EXCEEDED", "IN_PROGRESS", "", "NEW_WORD"],
)
def test_no_finished_scan_never_passes(status: str) -> None:
    """Without findings but also without a finished scan the verdict is fail, whatever AWS calls it."""
    assert judged(status=status).verdict is Verdict.FAIL


@pytest.mark.parametrize("status", ["COMPLETE", "ACTIVE"])
def test_a_finished_scan_without_findings_passes(status: str) -> None:
    """Basic scans end as COMPLETE, enhanced ones stay ACTIVE."""
    assert judged(status=status).verdict is Verdict.PASS


def test_blocking_findings_are_named() -> None:
    """The result holds the findings that block, and only those."""
    scanned = judged(finding(), finding("CVE-2", "MEDIUM"))

    assert [f.id for f in scanned.blocking] == ["CVE-1"]


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.array([1, 2, 3, 4]), np.array([1.0, 2.0, 3.0, 9.0])),
        (np.array(["a", "b", "c", "d"]), np.array(["a", "b", "c", "x"])),
        (np.array(["1", "2", "3", "4"]), np.array([1, 2, 3, 5])),
        (np.array([[1], [2], [3], [4]]), np.array([1, 2, 3, 5])),
        (np.array([True, True, False, False]), np.array([1, 1, 0, 1])),
    ],
)
def test_labels_are_compared_by_meaning(predictions: np.ndarray, expected: np.ndarray) -> None:
    """Three of four right is 0.75, whatever types the labels have."""
    _, _, quality = judge_quality(predictions, expected, metric="accuracy", at_least=0.5)

    assert (quality.value, quality.samples) == (0.75, 4)


@pytest.mark.parametrize(
    ("at_least", "not_below", "verdict"),
    [(0.75, None, Verdict.PASS), (0.76, None, Verdict.FAIL), (0.5, 0.75, Verdict.PASS), (0.5, 0.8, Verdict.FAIL)],
)
def test_both_floors_hold(at_least: float, not_below: float | None, verdict: Verdict) -> None:
    """The configured floor and the live model's each can refuse; reaching a floor is enough."""
    arrays = np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])

    assert judge_quality(*arrays, metric="accuracy", at_least=at_least, not_below=not_below)[0] is verdict


@pytest.mark.parametrize(
    ("predictions", "expected", "said"),
    [
        ([], [], "0 predictions for 0 labels"),
        ([], [1, 2], "0 predictions for 2 labels"),
        ([1, 2], [], "2 predictions for 0 labels"),
    ],
)
def test_no_rows_are_no_pass(predictions: list[int], expected: list[int], said: str) -> None:
    """No data is never a pass, on whichever side it is missing, and the reason counts both."""
    arrays = np.array(predictions, dtype=np.int64), np.array(expected, dtype=np.int64)

    verdict, reason, quality = judge_quality(*arrays, metric="accuracy", at_least=0)

    assert (verdict, reason, quality.samples) == (Verdict.INCONCLUSIVE, said, len(expected))


@pytest.mark.parametrize(
    ("predictions", "right"),
    [
        (np.array([1.0, np.nan]), 1),
        (np.array([1.2, 2.0]), 1),
        (np.array([-1, 2]), 1),
        (np.array([1, 2]), 2),
    ],
)
def test_what_is_no_label_is_wrong(predictions: np.ndarray, right: int) -> None:
    """NaN, a fraction and a negative number equal none of the labels 1 and 2."""
    _, _, quality = judge_quality(predictions, np.array([1, 2]), metric="accuracy", at_least=0)

    assert quality.value == right / 2


def test_a_refused_model_reads_in_figures() -> None:
    """The value, the rows and the floor that was missed: the configured one first."""
    arrays = np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])

    reasons = [
        judge_quality(*arrays, metric="accuracy", at_least=at_least, not_below=not_below)[1]
        for at_least, not_below in ((0.8, 0.9), (0.5, 0.9), (0.5, None))
    ]

    assert reasons == [
        "accuracy 0.7500 on 4 rows is below 0.8",
        "accuracy 0.7500 on 4 rows is below 0.9000, the live model's value less what may be lost",
        "accuracy 0.7500 on 4 rows is at least 0.5",
    ]
