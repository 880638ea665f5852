"""What `/predict` says beside the model's own labels."""

import numpy as np
import pytest

from pipeline.judges import judge_predictions
from pipeline.results import Verdict
from pipeline.stages.golden import prediction_of

LABELS = np.array([0, 1, 2, 1])


@pytest.mark.parametrize("predicted", [[0, 1, 2, 1], ["0", "1", "2", "1"], [0.0, 1.0, 2.0, 1.0]])
def test_the_models_own_labels_pass(predicted):
    """Whole numbers and their texts are the same labels."""
    verdict, reason = judge_predictions(LABELS, predicted)

    assert (Verdict.PASS, "`/predict` gives the model's labels on 4 rows") == (verdict, reason)


def test_another_label_than_the_models_fails_with_the_first_row():
    """Also when the classes are only permuted, which a test of consistency alone would let through."""
    verdict, reason = judge_predictions(LABELS, [1, 2, 0, 2])

    assert verdict is Verdict.FAIL
    assert "in 4 of 4 rows: row 0 says `1`, the model `0`" in reason


def test_names_for_the_classes_pass_when_each_label_has_one():
    """A service.py may say `setosa` for 0."""
    verdict, _ = judge_predictions(LABELS, ["setosa", "versicolor", "virginica", "versicolor"])

    assert Verdict.PASS is verdict


@pytest.mark.parametrize("words", [["a", "b", "c", "a"], ["a", "a", "a", "a"]])
def test_names_that_mix_classes_up_fail(words):
    """Two words for one label, or one word for two labels."""
    verdict, reason = judge_predictions(LABELS, words)

    assert verdict is Verdict.FAIL
    assert "mixes classes up" in reason


@pytest.mark.parametrize("predicted", [[], [0, 1]])
def test_no_or_too_few_predictions_decide_nothing(predicted):
    """No data is never a pass."""
    assert Verdict.INCONCLUSIVE is judge_predictions(LABELS, predicted)[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"prediction": 3, "confidence": 0.9}, 3),
        ({"predictions": [{"prediction": "cat"}], "model": "m"}, "cat"),
        ({"predictions": [1, 2]}, None),
        ({"top3": [1, 2, 3]}, None),
        ([1], None),
    ],
)
def test_a_prediction_is_found_bare_or_in_a_list_of_one(answer, expected):
    """An answer that names none is judged by its status alone."""
    assert expected == prediction_of(answer)
