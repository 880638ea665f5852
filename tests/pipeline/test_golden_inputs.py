"""Golden inputs: what a file must hold, and what each mistake is called."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.golden_inputs import load_golden
from pipeline.results import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("X", "FP32", (-1, 4)),), (TensorSpec("y", "INT64", (-1,)),), 10, 17)
X = np.arange(160, dtype=np.float64).reshape(40, 4)
Y = np.arange(40)


def saved(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "golden.npz"
    np.savez(path, **arrays)
    return path


def test_rows_come_in_the_models_dtype(tmp_path: Path) -> None:
    """float64, NumPy's habit, becomes the float32 that the model takes; labels stay as they are."""
    golden = load_golden(saved(tmp_path, X=X, expected=Y), SIGNATURE)

    assert (golden.rows, golden.inputs["X"].dtype) == (40, np.float32)
    np.testing.assert_array_equal(Y, golden.expected)


def test_labels_are_optional(tmp_path: Path) -> None:
    """Without `expected` the rows are not labelled."""
    assert load_golden(saved(tmp_path, X=X), SIGNATURE).expected is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"Z": X}, "array `Z` that is no input"),
        ({"expected": Y}, "no array `X`"),
        ({"X": X[:31]}, "has 31 rows; at least 32"),
        ({"X": X, "expected": Y[:39]}, r"arrays differ in rows \(X: 40, expected: 39\)"),
        ({"X": X[:, :3]}, r"`X` has shape \[40, 3\]; the model takes \[-1, 4\]"),
        ({"X": X.ravel()}, r"`X` has shape \[160\]"),
        ({"X": np.where(X == 7, np.nan, X)}, "1 values that are NaN or infinite"),
        ({"X": X.astype(str)}, "the model takes FP32"),
        ({"X": X.astype(complex)}, "complex128; the model takes FP32"),
        ({"X": X, "expected": np.eye(40)}, "takes one label a row"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    """Each way to get golden inputs wrong has words of its own."""
    with pytest.raises(ConfigError, match=words):
        load_golden(saved(tmp_path, **arrays), SIGNATURE)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (
            (8, 4),
            "input `X` has shape [8, 4]: its first axis, the batch, is fixed to 8, so no row can be judged by itself",
        ),
        ((), "input `X` is a scalar (shape []): it has no first axis, so no rows to judge a release by"),
    ],
)
def test_an_input_that_takes_no_rows_is_explained(tmp_path: Path, shape: tuple[int, ...], says: str) -> None:
    """A model exported for eight rows can be given neither one nor forty; a scalar has none."""
    fixed = Signature((TensorSpec("X", "FP32", shape),), SIGNATURE.outputs, 10, 17)

    with pytest.raises(ConfigError) as caught:
        load_golden(saved(tmp_path, X=X), fixed)

    assert says in caught.value.what
    assert "dynamic batch axis, or one of size 1" in caught.value.remedy


def test_a_batch_of_one_takes_all_rows(tmp_path: Path) -> None:
    """One by one, as most clients send them."""
    fixed = Signature((TensorSpec("X", "FP32", (1, 4)),), SIGNATURE.outputs, 10, 17)

    assert 40 == load_golden(saved(tmp_path, X=X), fixed).rows


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    """An object array would run code on loading; it is refused instead."""
    with pytest.raises(ConfigError, match=r"is not a readable \.npz"):
        load_golden(saved(tmp_path, X=np.array([{}] * 40, dtype=object)), SIGNATURE)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage is a configuration error, not a traceback."""
    path = tmp_path / "golden.npz"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"is not a readable \.npz"):
        load_golden(path, SIGNATURE)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """No golden inputs: the remedy is the line of NumPy that writes them."""
    with pytest.raises(ConfigError) as caught:
        load_golden(tmp_path / "none.npz", SIGNATURE)

    assert "numpy.savez" in caught.value.remedy


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """The published file is content-addressed, so no time may stand in it."""
    golden = load_golden(saved(tmp_path, X=X, expected=Y), SIGNATURE)

    first, second = golden.as_npz({"y": Y}), golden.as_npz({"y": Y})

    assert first == second
    with np.load(io.BytesIO(first)) as archive:
        assert set(archive.files) == {"X", "expected", "output:y"}
