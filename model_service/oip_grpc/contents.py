"""Tensors as typed `contents`: a repeated field for each kind of number, several datatypes to a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model_service.errors import RequestRefused
from model_service.tensors import Array, Datatype, element_count

# FP16 and BF16 have no field: they only travel raw.
FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
NUMPY_TYPES = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}


def from_contents(contents: Any, datatype: Datatype, shape: Sequence[int], *, what: str) -> Array:
    """The array of `shape` in an InferTensorContents. Raises RequestRefused(400)."""
    field = FIELDS.get(datatype.name)
    if field is None:
        raise RequestRefused(400, f"{what}: there are no contents for {datatype.name}; send raw_input_contents")
    for filled, _ in contents.ListFields():
        if filled.name != field:
            raise RequestRefused(400, f"{what} is in {filled.name}; {datatype.name} belongs into {field}")
    elements = getattr(contents, field)
    count = element_count(shape)
    if len(elements) != count:
        raise RequestRefused(400, f"{what} has {len(elements)} elements in {field}; shape {list(shape)} has {count}")
    if datatype.name == "BYTES":
        return _strings(elements, what).reshape(shape)
    array = np.fromiter(elements, NUMPY_TYPES.get(field, datatype.numpy_type), count)
    return _narrowed(array, datatype, what).reshape(shape)


def fill_contents(contents: Any, array: Array, datatype: Datatype) -> None:
    """Put the elements of `array` into an InferTensorContents."""
    elements = array.reshape(-1).tolist()
    if datatype.name == "BYTES":
        elements = [str(element).encode() for element in elements]
    getattr(contents, FIELDS[datatype.name]).extend(elements)


def _strings(elements: Sequence[bytes], what: str) -> Array:
    strings = np.empty(len(elements), np.object_)
    for index, element in enumerate(elements):
        try:
            strings[index] = str(element, "utf-8")
        except UnicodeDecodeError as error:
            raise RequestRefused(400, f"{what}: element {index} is not UTF-8 text") from error
    return strings


def _narrowed(array: Array, datatype: Datatype, what: str) -> Array:
    """The numbers of a field of 32 bits as the datatype of fewer bits that they are."""
    if array.dtype == datatype.numpy_type:
        return array
    limits = np.iinfo(datatype.numpy_type)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise RequestRefused(400, f"{what} has a number out of the range of {datatype.name}")
    return array.astype(datatype.numpy_type)
