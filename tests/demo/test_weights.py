"""Which release had which share of production follows from the weights; answers that they do not allow are found."""

from datetime import UTC, datetime
from typing import Any

import pytest

from demo import weights
from demo.ledger import Request
from demo.weights import Change, Run

PORT = 8000
RUNS = [
    Run("v1", 0, 10),
    Run("v2", 20, 30),
    Run("refused", 40, 50),
    Run("bad", 60, 70),
    Run("v3", 80, 90),
]


def weighed(at: float, port: int = PORT, **groups: int) -> dict[str, Any]:
    return {"time": datetime.fromtimestamp(at, UTC).isoformat(), "listener_port": port, "weights": groups}


STORY = [
    weighed(5, a=100, b=0),
    weighed(25, a=0, b=100),
    weighed(45, port=9000, a=100, b=0),
    weighed(65, a=100, b=0),
    weighed(68, a=0, b=100),
    weighed(85, a=100, b=0),
]


def test_the_shares_follow_the_weights() -> None:
    """A target group is the release's whose command gave it weight; a rollback returns to the former holder."""
    told = weights.changes(STORY, PORT, RUNS)

    assert [(5, "v1"), (25, "v2"), (65, "bad"), (68, "v2"), (85, "v3")] == [(c.at, *c.shares) for c in told]
    assert ["v1", "v2", "bad", "v2", "v3"] == weights.in_full(told)


def test_a_release_that_gets_a_part_first_shares_production() -> None:
    """Canary: 20 %, then all; one that is taken back from its 20 % never had all."""
    moved = [weighed(5, a=100, b=0), weighed(22, a=80, b=20), weighed(28, a=0, b=100)]
    taken_back = [weighed(62, a=20, b=80), weighed(66, a=0, b=100)]

    told = weights.changes([*moved, *taken_back], PORT, RUNS)

    shares = [{"v1": 100}, {"v1": 80, "v2": 20}, {"v2": 100}, {"bad": 20, "v2": 80}, {"v2": 100}]
    assert shares == [change.shares for change in told]
    assert ["v1", "v2"] == weights.in_full(told)


def test_weight_that_moves_outside_every_command_is_nobodys() -> None:
    """So that no release is told to have had it, and every answer in it is a problem."""
    told = weights.changes([weighed(15, a=100)], PORT, RUNS)

    assert [Change(15, {weights.UNKNOWN: 100})] == told
    assert 1 == len(weights.against_weights([Request(16.0, 16.1, "v1", "")], told))


TOLD = [Change(0, {"v1": 100}), Change(10, {"v2": 100}), Change(20, {"v1": 100})]


@pytest.mark.parametrize(
    "request_",
    [
        Request(1.0, 1.1, "v1", ""),
        Request(9.9, 10.1, "v1", ""),
        Request(9.9, 10.1, "v2", ""),
        Request(15.0, 15.1, "v2", ""),
        Request(15.0, 20.0, "", "no answer within 5 s"),
        Request(25.0, 25.1, "v1", ""),
    ],
)
def test_an_answer_of_a_release_that_had_production_meanwhile_is_right(request_: Request) -> None:
    """Around a shift either release may answer; elsewhere only the one that has the weight."""
    assert [] == weights.against_weights([request_], TOLD)


@pytest.mark.parametrize(
    "request_",
    [
        Request(9.0, 9.9, "v2", ""),
        Request(10.1, 10.2, "v1", ""),
        Request(20.1, 20.2, "v2", ""),
        Request(15.0, 15.1, "v1", "status 500: "),
        Request(15.0, 15.1, "", ""),
    ],
)
def test_an_answer_before_the_shift_or_after_it_is_found(request_: Request) -> None:
    """No v2 before production moves to it, no v1 after, failed or not, and no answer of nobody."""
    (problem,) = weights.against_weights([request_], TOLD)

    assert f"answered by {request_.release}, not" in problem


def test_while_tasks_are_replaced_one_by_one_both_releases_may_answer() -> None:
    """A rolling deployment moves no weight: until the command ends old and new answer, afterwards the new alone."""
    told = weights.replaced([Run("v1", 0, 10), Run("v2", 20, 30)])

    right = [Request(15.0, 15.1, "v1", ""), Request(25.0, 25.1, "v1", ""), Request(25.0, 25.1, "v2", "")]
    wrong = [Request(15.0, 15.1, "v2", ""), Request(35.0, 35.1, "v1", "")]
    assert [] == weights.against_weights(right, told)
    assert 2 == len(weights.against_weights(wrong, told))


def sent(v1: int, v2: int) -> list[Request]:
    releases = ["v1"] * v1 + ["v2"] * v2
    return [Request(10 + 0.01 * number, 10.1 + 0.01 * number, name, "") for number, name in enumerate(releases)]


def test_shares_agree_with_the_weights_within_noise() -> None:
    """At 80 and 20 %, 160 and 40 of 200 are right and so is a little less; half and half is not."""
    told = [Change(0, {"v1": 100}), Change(10, {"v1": 80, "v2": 20}), Change(20, {"v2": 100})]

    assert [] == weights.against_shares(sent(160, 40), told)
    assert [] == weights.against_shares(sent(150, 50), told)
    v1, v2 = weights.against_shares(sent(100, 100), told)
    assert v1.startswith("v1 answered 100 of 200 requests at a weight of 80 %; 160 ± ")
    assert v2.startswith("v2 answered 100 of 200 requests at a weight of 20 %; 40 ± ")
