"""What the report says of a release rests on its record and on the command's own words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from demo import faults, releases
from demo.commands import Ended, Step

PREPARED = {stage: {} for stage in releases.STAGES}
GOLDEN = {"name": "golden", "verdict": "pass", "reason": "2 outputs equal", "numbers": {}}
LOAD = {"name": "load", "verdict": "fail", "reason": "p99 420 ms is above 300", "numbers": {"p99_ms": 420}}


def record(outcome: str = "refused", reason: str = "", details: tuple[str, ...] = (), **results: Any) -> dict[str, Any]:
    return {"outcome": outcome, "reason": reason, "details": list(details), "results": results}


@pytest.mark.parametrize(
    ("stopped_by", "told"),
    [
        ("build", record()),
        ("scan", record(build={})),
        ("publish", record(build={}, scan={})),
        ("rollout", record(**PREPARED)),
        ("load", record(**PREPARED, gates={"golden": GOLDEN, "load": LOAD})),
        ("bake", record("rolled-back", **PREPARED, gates={"golden": GOLDEN})),
    ],
)
def test_who_stopped_a_release_follows_from_its_record(stopped_by: str, told: dict[str, Any]) -> None:
    """The first stage without a result, the gate that said no, the start, or the bake."""
    assert stopped_by == releases.stopped_by(told)


def test_the_reason_has_the_last_log_lines_and_not_the_gates_again() -> None:
    """What a stopped task wrote stands beneath the reason; a gate's line stands with the gates."""
    lines = ("task 1: exit code 1", "  | KeyError: 'FEATURE_STORE_URL'")

    assert "3 tasks failed.\n" + "\n".join(lines) == releases.reason(record(reason="3 tasks failed.", details=lines))
    refused = record(reason="p99.", details=("golden: pass - 2", "load: fail - p99"), gates={"golden": {}, "load": {}})
    assert "p99." == releases.reason(refused)


def test_a_release_stopped_by_another_or_for_another_reason_is_a_problem() -> None:
    """The story is about who notices what; an accident is not taken for it."""
    right = {"gate": "scan", "reason": "CRITICAL CVE-2024-3094 xz-utils"}

    assert [] == releases.mismatches(faults.CRITICAL_FINDING, right)
    assert 2 == len(releases.mismatches(faults.CRITICAL_FINDING, {"gate": "build", "reason": "no space left"}))


def test_stages_are_read_from_the_progress() -> None:
    """Each lasts until the next begins, the last until the command ends."""
    step = Step("ship slow", "onnxship ship", "", 3, 3, 60.0, 20.0)
    progress = [
        (0.5, "build ..."),
        (1.5, "rollout ..."),
        (2.0, "IN_PROGRESS  SCALE_UP"),
        (7.0, "IN_PROGRESS  POST_TEST_TRAFFIC_SHIFT"),
        (15.0, "ROLLBACK_IN_PROGRESS  CLEAN_UP"),
    ]
    ended = Ended(step, datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC), {}, progress, [])

    assert {"build": 1.0, "rollout": 18.5} == ended.durations_s
    stages = [(stage["stage"], stage["started_at"][17:22], stage["duration_s"]) for stage in ended.stages]
    assert [
        ("SCALE_UP", "02+00", 5.0),
        ("POST_TEST_TRAFFIC_SHIFT", "07+00", 8.0),
        ("CLEAN_UP", "15+00", 5.0),
    ] == stages


def test_a_command_that_deployed_nothing_has_no_stages() -> None:
    """No progress, no stages."""
    ended = Ended(Step("", "", "", 3, 3, 0.0, 2.0), datetime.now(UTC), {}, [(0.1, "a line")], [])

    assert ([], {}) == (ended.stages, ended.durations_s)


def test_every_fault_is_a_commit_of_its_own() -> None:
    """Names and commits are unique, and no code of a bad release is that of a good one or of another."""
    assert 8 == len({fault.release for fault in faults.FAULTS}) == len({fault.commit for fault in faults.FAULTS})
    coded = [fault.service for fault in faults.FAULTS if fault is not faults.PERMUTED_CLASSES]
    assert len(coded) == len({*coded, faults.SERVICE}) - 1
    for code in coded:
        compile(code, "service.py", "exec")
