"""What the demo's users saw is held against the weights and the load balancer's log; each kind of lie is found."""

import json
from pathlib import Path

import numpy as np
import pytest

from demo import ledger, traffic
from demo.ledger import Request

ORDER, SHIFTS = ["v1", "v2", "v1"], [10.0, 20.0]


@pytest.mark.parametrize(
    "request_",
    [
        Request(1.0, 1.1, "v1", ""),
        Request(9.9, 10.1, "v1", ""),
        Request(9.9, 10.1, "v2", ""),
        Request(15.0, 15.1, "v2", ""),
        Request(25.0, 25.1, "v1", ""),
    ],
)
def test_an_answer_of_a_release_that_had_production_meanwhile_is_right(request_: Request) -> None:
    """Around a shift either release may answer; elsewhere only the one that has the weight."""
    assert [] == ledger.against_weights([request_], ORDER, SHIFTS)


@pytest.mark.parametrize(
    "request_",
    [Request(9.0, 9.9, "v2", ""), Request(10.1, 10.2, "v1", ""), Request(20.1, 20.2, "v2", "")],
)
def test_an_answer_before_the_shift_or_after_it_is_found(request_: Request) -> None:
    """No v2 before production moves to it, no v1 after."""
    (problem,) = ledger.against_weights([request_], ORDER, SHIFTS)

    assert request_.release in problem


def test_a_shift_that_nobody_told_is_found() -> None:
    """Three releases in production mean two shifts."""
    (problem,) = ledger.against_weights([], ORDER, [10.0])

    assert "3 releases" in problem
    assert "1 times" in problem


def test_counts_that_differ_from_the_load_balancers_are_found() -> None:
    """By release, both ways: what users did not see, and what the log does not know."""
    requests = [Request(1.0, 1.1, "v1", ""), Request(2.0, 2.1, "v2", "")]

    assert [] == ledger.against_log(requests, {"v1": 1, "v2": 1})
    assert ["v2: users counted 1, the load balancer 0"] == ledger.against_log(requests, {"v1": 1})
    assert ["v3: users counted 0, the load balancer 4"] == ledger.against_log(requests, {"v1": 1, "v2": 1, "v3": 4})


def test_the_summary_counts_failures_by_reason(tmp_path: Path) -> None:
    """Requests, failures, releases, percentiles and a second-by-second timeline."""
    lines = [
        {"start": 0.0, "end": 0.010, "release": "v1", "failed": ""},
        {"start": 0.5, "end": 0.530, "release": "v1", "failed": "status 503: "},
        {"start": 1.2, "end": 1.220, "release": "v2", "failed": ""},
    ]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    summary = ledger.summary(ledger.read(tmp_path / "requests.jsonl"))

    assert (3, 1, {"v1": 2, "v2": 1}) == (summary["requests"], summary["failed"], summary["by_release"])
    assert {"status 503: ": 1} == summary["failures"]
    assert [{"v1": 2}, {"v2": 1}] == [second["by_release"] for second in summary["timeline"]]
    assert pytest.approx(20.0) == summary["p50_ms"]


RECORDED = {"label:v1": np.array([7]), "confidence:v1": np.array([0.9])}


@pytest.mark.parametrize(
    ("answer", "release", "says"),
    [
        ({"prediction": 3, "confidence": 0.9}, "v1", "prediction 3, recorded 7"),
        ({"prediction": 7, "confidence": 0.5}, "v1", "confidence 0.5"),
        ({"prediction": 7, "confidence": float("nan")}, "v1", "confidence nan"),
        ({"prediction": 7}, "v1", "confidence None"),
        ({"prediction": 7, "confidence": 0.9}, "v9", "a release nobody shipped"),
    ],
)
def test_an_answer_that_differs_from_the_record_is_a_failure(answer: dict[str, float], release: str, says: str) -> None:
    """Another label, another confidence, no number at all, or a release that was never shipped."""
    assert says in traffic.difference(answer, release, 0, RECORDED)


def test_an_answer_as_recorded_is_none() -> None:
    """Rounding aside."""
    assert "" == traffic.difference({"prediction": 7, "confidence": 0.9000004}, "v1", 0, RECORDED)
