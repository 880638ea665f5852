"""JSON arrays of numbers: read as numpy reads Python's own numbers, or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.errors import RequestRefused
from model_service.json_numbers import read_numbers
from model_service.tensors import BY_NAME, from_json

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(min_value=-(2**63), max_value=2**64 - 1)
)


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@given(st.lists(NUMBERS))
def test_every_number_is_what_python_reads(numbers: list[float]) -> None:
    """To the last bit, whole numbers of 64 bits included."""
    expected = np.array(numbers, np.float64)
    np.testing.assert_array_equal(expected, read_numbers(raw(json.dumps(numbers))))


@pytest.mark.parametrize(
    "text",
    [
        "[1, [2, 3]]", "[[1], [2]]", "[1, true]", "[null]", '["1"]', "[1e400]", "[1, 2", "[1,,2]", "[01]", "[NaN]",
        "[1] 2", '{"a": [1]}', "1", "", f"[{10**40}]",
    ],
)  # fmt: skip
def test_what_is_no_flat_array_of_numbers_is_left_to_others(text: str) -> None:
    """Above all arrays within it, which must not be flattened."""
    assert read_numbers(raw(text)) is None


@pytest.mark.parametrize(("text", "words"), [("[1, [2, 3]]", "$[1]"), ("[1, 3.5e38]", "$[1]"), ("[1, true]", "$[1]")])
def test_what_is_wrong_is_told_by_its_place(text: str, words: str) -> None:
    """As for any other datatype."""
    with pytest.raises(RequestRefused) as refused:
        from_json(raw(text), BY_NAME["FP32"], 1, what="the data")
    assert (400, True) == (refused.value.status, words in refused.value.message)


def test_numbers_beyond_64_bits_are_read_the_other_way() -> None:
    """A whole number of 41 digits is a good FP64."""
    assert [1e40] == from_json(raw(f"[{10**40}]"), BY_NAME["FP64"], 1, what="the data").tolist()


def test_threads_read_side_by_side() -> None:
    """Each has a parser of its own; an array stays what it was when the parser reads the next."""
    texts = [json.dumps([number] * 1000) for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda text: read_numbers(raw(text)), texts))
    assert [{float(number)} for number in range(64)] == [set(array.tolist()) for array in arrays if array is not None]
