"""Judges of what is served: parity with ONNX Runtime, and the load test's thresholds."""

import numpy as np
import pytest

from pipeline.judges import judge_load, judge_parity
from pipeline.results import Verdict

EXPECTED = {"p": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), "label": np.array([1, 0])}


def parity(**changed):
    answered = {"p": EXPECTED["p"].astype(np.float64), "label": EXPECTED["label"], **changed}
    return judge_parity(EXPECTED, {k: v for k, v in answered.items() if v is not None}, rtol=1e-3, atol=1e-5)


def test_equal_answers_pass_and_say_on_how_many_rows():
    """The largest difference is a number of the verdict."""
    verdict, reason, numbers = parity(p=EXPECTED["p"] + 1e-5)

    assert (verdict, reason) == (Verdict.PASS, "2 outputs equal ONNX Runtime's own on 2 rows")
    assert numbers["p_max_difference"] == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"p": np.array([[0.25, 0.75], [0.5, 0.51]])}, "`p` differs in 1 of 4 values, by up to 0.01"),
        ({"p": np.array([[0.25, 0.75], [0.5, np.nan]])}, "`p` differs in 1 of 4 values, by up to 0"),
        ({"label": np.array([1, 1])}, "`label` differs in 1 of 2 values"),
        ({"label": np.array(["1", "x"])}, "`label` differs in 1 of 2 values"),
        ({"p": None}, "`p` is not among the answers"),
        ({"p": np.array([[0.25, 0.75]])}, "`p` has shape [1, 2], not [2, 2]"),
        ({"p": np.array([["a", "b"], ["c", "d"]])}, "`p` holds <U1 values, not numbers"),
    ],
)
def test_any_output_that_differs_fails(changed, said):
    """Numbers beyond the tolerance, NaN, labels, missing outputs, shapes and types."""
    verdict, reason, _ = parity(**changed)

    assert (verdict, reason) == (Verdict.FAIL, said)


def test_nan_where_nan_was_recorded_is_equal():
    """The server repeats what ONNX Runtime itself answered."""
    expected = {"p": np.array([np.nan, 1.0])}

    assert judge_parity(expected, expected, rtol=0, atol=0)[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(0.0, Verdict.PASS), (0.0015, Verdict.PASS), (0.0025, Verdict.FAIL), (-0.0025, Verdict.FAIL)],
)
def test_the_tolerance_is_of_both_kinds(difference, verdict):
    """|difference| <= atol + rtol * |expected|: at 1.0 with 0.001 of each, 0.002."""
    expected = {"p": np.array([1.0, 1.0])}

    assert judge_parity(expected, {"p": np.array([1.0, 1.0 + difference])}, rtol=1e-3, atol=1e-3)[0] is verdict


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_fails(value):
    """NaN and infinity differ from any number, and the largest difference stays a number."""
    verdict, _, numbers = parity(p=np.array([[0.25, 0.75], [0.5, value]]))

    assert verdict is Verdict.FAIL
    assert np.isfinite(numbers["p_max_difference"])


def test_text_and_integers_are_compared_as_they_are():
    """No tolerance: one letter or one is a difference."""
    expected = {"name": np.array(["cat", "dog"]), "count": np.array([1000, 2000])}

    same = judge_parity(expected, expected, rtol=1, atol=1)
    off = judge_parity(expected, {"name": np.array(["cat", "dot"]), "count": np.array([1001, 2000])}, rtol=1, atol=1)

    assert same[0] is Verdict.PASS
    assert (off[0], off[1]) == (Verdict.FAIL, "`name` differs in 1 of 2 values; `count` differs in 1 of 2 values")


@pytest.mark.parametrize("expected", [{}, {"p": np.empty((0, 2))}])
def test_no_recorded_outputs_decide_nothing(expected):
    """No data is never a pass."""
    assert judge_parity(expected, expected, rtol=1, atol=1)[0] is Verdict.INCONCLUSIVE


def load(**changed):
    facts = {
        "requests": 1000, "failures": 0, "p99_ms": 20.0, "statuses": {"200": 1000}, "releases": {"v2": 1000},
        "release_id": "v2", "min_requests": 500, "max_p99_ms": 200.0, "max_failure_ratio": 0.001,
    }  # fmt: skip
    return judge_load(**{**facts, **changed})


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"failures": 1}, Verdict.PASS),
        ({"failures": 2}, Verdict.FAIL),
        ({"p99_ms": 200.1}, Verdict.FAIL),
        ({"requests": 499}, Verdict.INCONCLUSIVE),
        ({"requests": 0, "statuses": {}, "releases": {}}, Verdict.INCONCLUSIVE),
        ({"requests": 30, "failures": 30}, Verdict.FAIL),
        ({"requests": 12, "p99_ms": 3000.0}, Verdict.FAIL),
        ({"requests": 9, "p99_ms": 3000.0}, Verdict.INCONCLUSIVE),
        ({"statuses": {"200": 990, "429": 10}, "failures": 10}, Verdict.INCONCLUSIVE),
        ({"statuses": {"403": 1000}, "failures": 1000}, Verdict.INCONCLUSIVE),
        ({"releases": {"v2": 999, "v1": 1}}, Verdict.FAIL),
        ({"releases": {"v1": 1000}, "release_id": None}, Verdict.PASS),
    ],
)
def test_the_load_verdict(changed, verdict):
    """Thresholds decide; too few requests and answers of the edge decide nothing; another release's answers fail."""
    assert load(**changed)[0] is verdict


def test_the_reason_gives_the_figures():
    """A person sees what was measured and what was asked."""
    assert load(failures=20)[1] == "20 of 1000 requests failed (2.00%; at most 0.10%)"
    assert load()[1] == "1000 requests, 0 failed, p99 20.0 ms (at most 200)"


def test_failures_lead_and_the_other_releases_answers_follow():
    """A release that fails sets off the alarm, and the old one answers afterwards: the cause is said first."""
    reason = load(failures=20, first_failure="500 boom", releases={"v2": 950, "v1": 50})[1]

    assert reason == (
        "20 of 1000 requests failed (2.00%; at most 0.10%); first failure: 500 boom; "
        "answers came from other releases than `v2`: 50 by `v1`"
    )
