"""JSON arrays of numbers: read as numpy reads Python's own numbers, or not at all."""

import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.errors import RequestRefused
from model_service.inference.protocol import REQUEST_DECODER, decode_json, decode_request
from model_service.json_numbers import CUT_FROM_BYTES, cut_out, read_numbers
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


FLAT = st.lists(NUMBERS | st.booleans() | st.none())
KEYS = st.sampled_from(["data", 'x"data', '"data":[1]', "name"])
DOCUMENTS = st.recursive(
    FLAT | KEYS, lambda inner: st.dictionaries(KEYS, inner) | st.lists(inner, max_size=3), max_leaves=20
)


def put_back(short: bytes, arrays: dict[bytes, bytes]) -> bytes:
    for mark, array in arrays.items():
        assert 1 == short.count(mark)
        short = short.replace(mark, array)
    return short


@given(DOCUMENTS, st.sampled_from([None, 0, 1]))
def test_arrays_that_are_cut_out_leave_the_rest_as_it_was(document: object, indent: int | None) -> None:
    """With its arrays back in the places of their marks a document is itself, byte for byte; and without them it is
    JSON that says the same, but for strings instead of arrays."""
    content = json.dumps(document, indent=indent).encode()
    short, arrays = cut_out(content, from_bytes=1)
    assert content == put_back(short, arrays)
    json.loads(short)
    for array in arrays.values():
        assert isinstance(json.loads(array), list)


@given(DOCUMENTS, st.integers(min_value=0), st.binary(max_size=2) | st.sampled_from([b'"', b"]", b"[", b"\\", b"{"]))
def test_what_is_no_json_is_none_without_its_arrays(document: object, at: int, instead: bytes) -> None:
    """A document that is broken anywhere stays broken, in what is left or in an array that was cut out."""
    content = json.dumps({"data": document}).encode()
    at %= len(content)
    broken = content[:at] + instead + content[at + 1 :]
    short, arrays = cut_out(broken, from_bytes=1)
    if arrays and all(map(is_json, (short, *arrays.values()))):
        assert is_json(broken)


def is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


LONG = json.dumps([0.5] * CUT_FROM_BYTES)


def request(tensor_data: str, **members: str) -> bytes:
    further = "".join(f', "{name}": {value}' for name, value in members.items())
    tensor = f'{{"name": "x", "datatype": "FP32", "shape": [{CUT_FROM_BYTES}], "data": {tensor_data}}}'
    return f'{{"inputs": [{tensor}, {tensor}]{further}}}'.encode()


@pytest.mark.parametrize(
    "body",
    [request(LONG), request("[1]", data=LONG), request(LONG, id='"an id"', parameters='{"binary_data_output": true}')],
    ids=["two long tensors", "a long array that is no tensor", "other members"],
)
def test_a_long_request_is_read_as_a_short_one(body: bytes) -> None:
    """Whatever is cut out on the way, the request is the one that was sent."""
    assert decode_json(body, REQUEST_DECODER) == decode_request(body)


@pytest.mark.parametrize(
    "body",
    [
        request(LONG)[:-1],
        request(LONG, data=LONG[:-1] + ",]"),
        request(LONG, id="7"),
        request(LONG).replace(b"inputs", b"in"),
    ],
    ids=["cut off", "an array that nobody reads", "an id that is no string", "no inputs"],
)
def test_a_long_request_is_refused_in_the_words_of_a_short_one(body: bytes) -> None:
    """With the byte at which it is broken, or the path of what is wrong."""
    with pytest.raises(RequestRefused) as expected:
        decode_json(body, REQUEST_DECODER)
    with pytest.raises(RequestRefused) as refused:
        decode_request(body)
    assert expected.value.message == refused.value.message
