"""The highest elements of an output, as Triton writes them."""

from typing import Any

import numpy as np
import pytest

from model_service.inference.classification import classify
from model_service.tensors import BY_NAME, TensorSpec


@pytest.mark.parametrize(
    ("datatype", "row", "expected"),
    [
        ("FP32", [0.5, float("nan"), 0.75, 0.5], ["0.750000:2", "0.500000:0", "0.500000:3", "nan:1"]),
        ("FP16", [1.0, 2.0], ["2.000000:1", "1.000000:0"]),
        ("UINT8", [0, 255, 1], ["255:1", "1:2", "0:0"]),
        ("INT8", [-128, 127, 0], ["127:1", "0:2", "-128:0"]),
        ("UINT64", [2**64 - 1, 2**64 - 2], [f"{2**64 - 1}:0", f"{2**64 - 2}:1"]),
    ],
)
def test_the_highest_come_first(datatype: str, row: list[Any], expected: list[str]) -> None:
    """In the whole range of every datatype; of equals the lower index first, NaN last."""
    spec = TensorSpec("y", BY_NAME[datatype], ("N", len(row)))
    array = np.array([row], spec.datatype.numpy_type)
    assert [expected] == classify(array, spec, 9, ()).tolist()


def test_an_output_without_rows_is_one() -> None:
    """Where the first axis is fixed all elements are classes of one answer, as Triton has it."""
    spec = TensorSpec("y", BY_NAME["FP32"], (1, 3))
    assert ["3.000000:2", "2.000000:1:dog"] == classify(np.float32([[1, 2, 3]]), spec, 2, ("cat", "dog")).tolist()


def test_a_row_without_further_axes_has_one_class() -> None:
    """One element a row, so one class a row."""
    spec = TensorSpec("y", BY_NAME["INT64"], ("N",))
    assert [["7:0"], ["8:0"]] == classify(np.array([7, 8]), spec, 3, ()).tolist()
