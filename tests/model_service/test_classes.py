"""Classes: labels, probabilities, the k most likely."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_service.errors import RequestRefused, StartRefused
from model_service.inference.classes import Classes, check_classes, read_labels, read_top_k, to_probabilities, top_k
from model_service.tensors import BY_NAME, TensorSpec

SCORES = TensorSpec("scores", BY_NAME["FP32"], (None, 3))
INDEX = TensorSpec("index", BY_NAME["INT64"], (None,))
NAMES = TensorSpec("names", BY_NAME["BYTES"], (None,))


@pytest.mark.parametrize(
    ("name", "content"),
    [("labels.txt", b"tabby\n tiger cat \n\nlynx\n\n"), ("labels.json", b'["tabby", "tiger cat", "", "lynx"]')],
)
def test_labels_are_read_from_a_file(tmp_path: Path, name: str, content: bytes) -> None:
    """A line or an element each; an empty one in between keeps the others at their index."""
    (tmp_path / name).write_bytes(content)

    assert ("tabby", "tiger cat", "", "lynx") == read_labels(name, ["model.onnx", name], tmp_path)


@pytest.mark.parametrize(
    ("declared", "content", "words"),
    [
        ("other.txt", b"", "`other.txt`, which is none of its files"),
        ("labels.json", b'{"0": "tabby"}', "Expected `array`, got `object`"),
        ("labels.json", b"[1]", "Expected `str`, got `int`"),
        ("labels.txt", b"\xff\xfe", "can't decode"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, declared: str, content: bytes, words: str) -> None:
    """At the start, by the file's name."""
    for name in ("labels.txt", "labels.json"):
        (tmp_path / name).write_bytes(content)

    with pytest.raises(StartRefused) as caught:
        read_labels(declared, ["model.onnx", "labels.txt", "labels.json"], tmp_path)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "label", "scores", "words"),
    [
        (Classes(("a", "b")), None, SCORES, "has 2 labels; `scores` has 3 classes [-1, 3]"),
        (Classes(("a", "b")), None, None, "labels needs predict.label or predict.probabilities"),
        (Classes(("a", "b")), None, TensorSpec("p", BY_NAME["FP32"], (None,)), "`p` has 1 classes [-1]"),
        (Classes(("a", "b")), TensorSpec("y", BY_NAME["INT64"], (None, 2)), None, "its label `y` is [-1, 2]"),
        (Classes(("a", "b")), NAMES, None, "its label `names` is BYTES"),
        (Classes((), "softmax"), INDEX, None, "activation needs predict.probabilities"),
    ],
)
def test_what_the_model_has_no_output_for_is_refused(classes: Classes, label: Any, scores: Any, words: str) -> None:
    """Labels that are too few, or have nothing to name."""
    with pytest.raises(StartRefused) as caught:
        check_classes(classes, label, scores)

    assert words in str(caught.value)


def test_softmax_makes_probabilities_of_logits() -> None:
    """They add up to 1, also for logits whose powers no number can hold, and keep the datatype."""
    made = to_probabilities(np.float32([[1000.0], [1001.0], [-1000.0]]), "softmax")

    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [1 / (1 + np.e), np.e / (1 + np.e), 0], rtol=1e-6)


@pytest.mark.parametrize("activation", [None, "none"])
def test_without_softmax_scores_are_as_they_were(activation: str | None) -> None:
    """One flat row of them."""
    assert [3.0, -1.0] == to_probabilities(np.array([[3.0, -1.0]]), activation).tolist()


def test_the_most_likely_come_first() -> None:
    """Of equals the one with the lower index; all where there are fewer than k."""
    found = top_k(np.array([0.2, 0.3, 0.3, 0.2]), 9, Classes(("a", "b", "c", "d")), index_is_label=False)

    assert [("b", 1, 0.3), ("c", 2, 0.3), ("a", 0, 0.2), ("d", 3, 0.2)] == [tuple(row.values()) for row in found]


@pytest.mark.parametrize(
    ("classes", "index_is_label", "expected"),
    [
        (Classes(), True, {"label": 1, "index": 1, "confidence": 0.7}),
        (Classes(), False, {"label": None, "index": 1, "confidence": 0.7}),
        (Classes(activation="none"), True, {"label": 1, "index": 1, "confidence": None}),
    ],
)
def test_nothing_is_called_what_it_is_not(classes: Classes, index_is_label: bool, expected: dict[str, Any]) -> None:
    """An index is no label beside a label output, a score no confidence."""
    assert [expected] == top_k(np.array([0.3, 0.7]), 1, classes, index_is_label=index_is_label)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "five", "٣", "1" * 10, "1e3", " 2"])
def test_a_top_k_that_is_no_number_is_refused(text: str) -> None:
    """A whole number from 1, in plain digits."""
    with pytest.raises(RequestRefused) as caught:
        read_top_k(text)

    assert 400 == caught.value.status
