"""Tensors as bytes: little-endian and row-major, as the binary tensor data extension has them.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extension_binary_data.md
BOOL is one byte of 0 or 1, BF16 two bytes, an element of BYTES its length in four bytes and then as many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from model_service.errors import RequestRefused
from model_service.tensors import Array, Datatype, element_count

LENGTH = struct.Struct("<I")


def from_bytes(data: memoryview, datatype: Datatype, shape: Sequence[int], *, what: str) -> Array:
    """The array of `shape` in `data`; a view of it where that is possible. Raises RequestRefused(400)."""
    count = element_count(shape)
    if datatype.name == "BYTES":
        return _strings(data, count, what).reshape(shape)
    wanted = count * datatype.numpy_type.itemsize
    if len(data) != wanted:
        raise RequestRefused(400, f"{what} has {len(data)} bytes; shape {list(shape)} of {datatype.name} has {wanted}")
    if datatype.name == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise RequestRefused(400, f"{what} is not BOOL: a byte is neither 0 nor 1")
    array = np.frombuffer(data, datatype.numpy_type.newbyteorder("<"))
    # The kernels read whole vectors; where the JSON before it has an odd length the data must be moved.
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def to_bytes(array: Array) -> bytes | memoryview:
    """The bytes of `array`; a view of it where that is possible."""
    if array.dtype == np.object_:
        elements = [str(element).encode() for element in array.reshape(-1)]
        return b"".join(part for element in elements for part in (LENGTH.pack(len(element)), element))
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data if little.size else b""


def _strings(data: memoryview, count: int, what: str) -> Array:
    """`count` strings, each behind its length. As ONNX strings are text, bytes that are not UTF-8 are refused."""
    if count * LENGTH.size > len(data):  # before anything is made for that many
        raise RequestRefused(400, f"{what} has {len(data)} bytes, too few for {count} elements")
    strings = np.empty(count, np.object_)
    at = 0
    for index in range(count):
        if at + LENGTH.size > len(data):
            raise RequestRefused(400, f"{what} ends after {index} of {count} elements")
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + length > len(data):
            raise RequestRefused(400, f"{what}: element {index} has {length} bytes, and {len(data) - at} are left")
        try:
            strings[index] = str(data[at : at + length], "utf-8")
        except UnicodeDecodeError as error:
            raise RequestRefused(400, f"{what}: element {index} is not UTF-8 text") from error
        at += length
    if at != len(data):
        raise RequestRefused(400, f"{what} has {len(data) - at} bytes too many after its {count} elements")
    return strings
