"""What the demo's users saw is counted, and held against the load balancer's log; each kind of lie is found."""

import json
from pathlib import Path

import numpy as np
import pytest

from demo import ledger, traffic
from demo.ledger import Request

REQUESTS = [
    Request(0.0, 0.010, "v1", ""),
    Request(0.5, 0.530, "v1", "status 503: "),
    Request(1.2, 1.220, "v2", ""),
    Request(1.4, 1.440, "bad", "status 500: "),
    Request(1.5, 1.510, "bad", ""),
]


def test_counts_that_differ_from_the_load_balancers_are_found() -> None:
    """By release, both ways: what users did not see, and what the log does not know."""
    requests = [Request(1.0, 1.1, "v1", ""), Request(2.0, 2.1, "v2", "")]

    assert [] == ledger.against_log(requests, {"v1": 1, "v2": 1})
    assert ["v2: users counted 1, the load balancer 0"] == ledger.against_log(requests, {"v1": 1})
    assert ["v3: users counted 0, the load balancer 4"] == ledger.against_log(requests, {"v1": 1, "v2": 1, "v3": 4})


def test_the_summary_counts_failures_by_reason(tmp_path: Path) -> None:
    """Requests, failures, releases, percentiles and a second-by-second timeline."""
    lines = [vars(request) for request in REQUESTS[:3]]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    summary = ledger.summary(ledger.read(tmp_path / "requests.jsonl"))

    assert (3, 1, {"v1": 2, "v2": 1}) == (summary["requests"], summary["failed"], summary["by_release"])
    assert {"status 503: ": 1} == summary["failures"]
    assert [{"v1": 2}, {"v2": 1}] == [second["by_release"] for second in summary["timeline"]]
    assert pytest.approx(20.0) == summary["p50_ms"]


def test_only_what_the_bad_release_answered_is_left_out_of_the_failures() -> None:
    """They are counted as suffered instead; another release's failure is still a failure."""
    summary = ledger.summary(REQUESTS, bad="bad")

    assert (1, 1, {"status 503: ": 1}) == (summary["failed"], summary["suffered"], summary["failures"])
    assert [1, 1] == [second["failed"] for second in summary["timeline"]]


def test_an_answer_without_a_release_is_never_left_out() -> None:
    """A request that nobody answered failed, whatever release is known to be bad."""
    summary = ledger.summary([*REQUESTS, Request(2.0, 7.0, "", "no answer within 5 s")], bad="bad")

    assert 2 == summary["failed"]


def test_a_releases_requests_are_counted_within_a_time() -> None:
    """All of them and the failed ones; from `since`, before `until`."""
    assert (2, 1) == ledger.count(REQUESTS, "v1")
    assert (1, 1) == ledger.count(REQUESTS, "v1", since=0.5)
    assert (1, 0) == ledger.count(REQUESTS, "v1", until=0.5)
    assert (0, 0) == ledger.count(REQUESTS, "v9")


def test_latencies_are_told_by_release() -> None:
    """Two releases that answer in the same second have percentiles of their own."""
    second = ledger.timeline(REQUESTS)[1]

    assert {"v2": {"p50": 20.0, "p99": 20.0}, "bad": {"p50": 25.0, "p99": 39.7}} == second["latency_ms"]


RECORDED = {"X": np.eye(2), "label:v1": np.array([7, 3]), "confidence:v1": np.array([0.9, 0.8])}
SECOND = {"prediction": 3, "confidence": 0.8}


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
    assert says in traffic.difference(answer, release, [0], RECORDED)
    if release == "v1":
        assert says in traffic.difference({"predictions": [answer, SECOND]}, release, [0, 1], RECORDED)


def test_an_answer_to_one_of_two_images_is_a_failure() -> None:
    """As a release gives it that reads the first alone."""
    assert "1 answers to 2 images" == traffic.difference({"predictions": [SECOND]}, "v1", [0, 1], RECORDED)
    assert "0 answers to 2 images" == traffic.difference(SECOND, "v1", [0, 1], RECORDED)


def test_an_answer_as_recorded_is_none() -> None:
    """Rounding aside."""
    first = {"prediction": 7, "confidence": 0.9000004}

    assert "" == traffic.difference(first, "v1", [0], RECORDED)
    assert "" == traffic.difference({"predictions": [first, SECOND]}, "v1", [0, 1], RECORDED)


def test_a_request_holds_one_image_or_several() -> None:
    """One is an `input`, several are `inputs`."""
    assert {"input": [1.0, 0.0]} == json.loads(traffic.body([0], RECORDED))
    assert {"inputs": [[1.0, 0.0], [0.0, 1.0]]} == json.loads(traffic.body([0, 1], RECORDED))
