"""JSON to numpy and back, for every datatype of the protocol."""

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_service.errors import RequestRefused
from model_service.tensors import BY_NAME, DATATYPES, TensorSpec, check_inputs, from_flat_or_nested_json, to_json

NUMERIC = [datatype for datatype in DATATYPES if datatype.name not in ("BYTES", "BF16")]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def read(data: str, datatype: str, shape: list[int]) -> np.ndarray:
    return from_flat_or_nested_json(msgspec.Raw(data.encode()), BY_NAME[datatype], shape, what="the data")


def refusal(data: str, datatype: str, shape: list[int]) -> str:
    with pytest.raises(RequestRefused) as refused:
        read(data, datatype, shape)
    assert refused.value.status == 400
    return refused.value.message


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda datatype: datatype.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_numbers_survive_json(datatype, data) -> None:
    """Every finite number of every datatype comes back exactly as it was sent."""
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.numpy_type.kind == "f" else {}
    elements = hnp.from_dtype(datatype.numpy_type, **finite)
    array = data.draw(hnp.arrays(datatype.numpy_type, SHAPES, elements=elements))
    text = orjson.dumps(to_json(array), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    back = read(text, datatype.name, list(array.shape))
    assert datatype.numpy_type == back.dtype
    assert array.tolist() == back.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=6))
def test_strings_survive_json(texts: list[str]) -> None:
    """Strings keep every character, NUL and empty ones included."""
    array = np.array(texts, dtype=object)
    back = read(orjson.dumps(to_json(array)).decode(), "BYTES", [len(texts)])
    assert texts == back.tolist()


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, SHAPES))
def test_nested_equals_flat(array: np.ndarray) -> None:
    """Nested data and flat data of the same shape are the same tensor."""
    nested, flat = orjson.dumps(array.tolist()).decode(), orjson.dumps(array.reshape(-1).tolist()).decode()
    assert read(nested, "INT64", list(array.shape)).tolist() == read(flat, "INT64", list(array.shape)).tolist()


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "words"),
    [
        ('["1"]', "FP32", [1], "Expected `float`, got `str` - at `$[0]`"),
        ("[true]", "FP32", [1], "Expected `float`, got `bool`"),
        ("[null]", "FP32", [1], "Expected `float`, got `null`"),
        ("[NaN]", "FP32", [1], "malformed"),
        ("[0, 1e39]", "FP32", [2], "out of the range of FP32 - at `$[1]`"),
        ("[70000]", "FP16", [1], "out of the range of FP16"),
        ("[1.5]", "INT64", [1], "Expected `int`, got `float`"),
        ("[9223372036854775808]", "INT64", [1], "out of the range of INT64"),
        ("[[1], [128]]", "INT8", [2, 1], "out of the range of INT8 - at `$[1][0]`"),
        ("[-1]", "UINT8", [1], "out of the range of UINT8"),
        ("[1]", "BOOL", [1], "Expected `bool`, got `int`"),
        ("[1]", "BYTES", [1], "Expected `str`, got `int`"),
        ("[1, 2]", "FP32", [3], "has 2 elements, but its shape is [3]"),
        ("[[1, 2], [3]]", "FP32", [2, 2], "rows of different lengths"),
        ('[["a"], ["b", "c"]]', "BYTES", [2, 2], "nested as [2], but its shape is [2, 2]"),
        ("[[1], [2]]", "FP32", [1, 2], "nested as [2, 1], but its shape is [1, 2]"),
        ("[[1]]", "FP32", [1], "Expected `float`, got `array`"),
        ("[1, [2]]", "FP32", [1, 2], "Expected `float`, got `array`"),
        ("[" * 2000, "FP32", [1, 1], "is not FP32"),
        ("5", "FP32", [1], "Expected `array`, got `int`"),
        ("{}", "FP32", [1], "Expected `array`, got `object`"),
    ],
)
def test_refuses_other_elements(data: str, datatype: str, shape: list[int], words: str) -> None:
    """What is not exactly a tensor of the datatype and shape is refused with the place and the reason."""
    assert words in refusal(data, datatype, shape)


def test_an_element_count_does_not_wrap_around() -> None:
    """A shape whose product overflows 64 bits does not match a small tensor."""
    assert "has 1 elements" in refusal("[1]", "FP32", [2**33, 2**33])


def test_symbols_must_agree() -> None:
    """Two inputs that share a symbol must have the same size there."""
    specs = [TensorSpec(name, BY_NAME["FP32"], ("N", 2)) for name in "ab"]
    arrays = {"a": np.zeros((3, 2), np.float32), "b": np.zeros((2, 2), np.float32)}
    with pytest.raises(RequestRefused, match=r"`b` has shape \[2, 2\], but another input has 3 for `N`"):
        check_inputs(arrays, specs, max_rows=10)
