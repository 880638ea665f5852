"""Tensors: the one table of datatypes, JSON to numpy and back, and the checks against a model's signature.

Pure functions. Datatypes are the Open Inference Protocol's:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_service.errors import RequestRefused
from model_service.json_numbers import narrowed, read_numbers

Array = NDArray[Any]
SPACE = b" \t\r\n"


class Datatype(NamedTuple):
    """A datatype in the words of the protocol, of ONNX Runtime, of numpy and of JSON."""

    name: str
    onnx_type: str
    numpy_type: np.dtype[Any]
    json_type: type | None


DATATYPES = (
    Datatype("BOOL", "tensor(bool)", np.dtype(np.bool_), bool),
    Datatype("UINT8", "tensor(uint8)", np.dtype(np.uint8), int),
    Datatype("UINT16", "tensor(uint16)", np.dtype(np.uint16), int),
    Datatype("UINT32", "tensor(uint32)", np.dtype(np.uint32), int),
    Datatype("UINT64", "tensor(uint64)", np.dtype(np.uint64), int),
    Datatype("INT8", "tensor(int8)", np.dtype(np.int8), int),
    Datatype("INT16", "tensor(int16)", np.dtype(np.int16), int),
    Datatype("INT32", "tensor(int32)", np.dtype(np.int32), int),
    Datatype("INT64", "tensor(int64)", np.dtype(np.int64), int),
    Datatype("FP16", "tensor(float16)", np.dtype(np.float16), float),
    Datatype("FP32", "tensor(float)", np.dtype(np.float32), float),
    Datatype("FP64", "tensor(double)", np.dtype(np.float64), float),
    # numpy has no bfloat16: its two bytes travel as they are, and JSON has no form for it, in Triton neither.
    Datatype("BF16", "tensor(bfloat16)", np.dtype(np.uint16), None),
    Datatype("BYTES", "tensor(string)", np.dtype(np.object_), str),
)
BY_NAME = {datatype.name: datatype for datatype in DATATYPES}
BY_ONNX_TYPE = {datatype.onnx_type: datatype for datatype in DATATYPES}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the model. A dimension is a size, a symbol that must agree wherever it stands, or None."""

    name: str
    datatype: Datatype
    dimensions: tuple[int | str | None, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The dimensions as the protocol writes them: -1 is variable."""
        return tuple(size if isinstance(size, int) else -1 for size in self.dimensions)

    @cached_property
    def has_variable_rows(self) -> bool:
        """Whether the first axis takes any number of rows."""
        return bool(self.dimensions) and not isinstance(self.dimensions[0], int)

    @cached_property
    def row_shape(self) -> list[int]:
        """The shape without the first axis."""
        return list(self.shape[1:])

    def describe(self) -> dict[str, Any]:
        """Name, datatype and shape, as the protocol's model metadata has them."""
        return {"name": self.name, "datatype": self.datatype.name, "shape": list(self.shape)}


def from_json(data: msgspec.Raw, datatype: Datatype, rank: int, *, what: str, place: str = "$") -> Array:
    """The array in `data`: JSON nested `rank` deep, with elements of exactly this datatype (whole numbers pass for
    fractional ones, nothing else passes for anything else). Raises RequestRefused(400) naming the element; `place` is
    the path that `data` has in the body."""
    if datatype.json_type is None:
        raise RequestRefused(400, f"{what}: JSON has no form for {datatype.name}; send it as binary tensor data")
    try:
        if rank == 1 and datatype.json_type is float and (numbers := read_numbers(data)) is not None:
            elements: Any = numbers
            return narrowed(numbers, datatype.numpy_type)
        elements = _decoder(datatype.json_type, rank).decode(data)
        with np.errstate(over="raise"):
            return np.array(elements, dtype=datatype.numpy_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(400, f"{what} is not {datatype.name}: {_placed(str(error), place)}") from error
    except (OverflowError, FloatingPointError) as error:
        words = f"{what} has a number out of the range of {datatype.name}"
        raise RequestRefused(400, f"{words} - at `{place}{_out_of_range(elements, datatype)}`") from error
    except ValueError as error:
        raise RequestRefused(400, _placed(f"{what} has rows of different lengths", place)) from error


def from_flat_or_nested_json(data: msgspec.Raw, datatype: Datatype, shape: Sequence[int], *, what: str) -> Array:
    """The array of `shape` in `data`, which may be flat (row-major) or nested as `shape` says."""
    rank = len(shape) if _is_nested(data) and len(shape) > 1 else 1
    array = from_json(data, datatype, rank, what=what)
    if rank > 1 and array.shape != tuple(shape):
        raise RequestRefused(400, f"{what} is nested as {list(array.shape)}, but its shape is {list(shape)}")
    if array.size != element_count(shape):
        raise RequestRefused(400, f"{what} has {array.size} elements, but its shape is {list(shape)}")
    return array.reshape(shape)


def element_count(shape: Sequence[int]) -> int:
    """The elements of an array of `shape`; not numpy.prod, which wraps around silently."""
    return math.prod(shape)


def to_json(array: Array) -> Any:
    """The elements, flat and row-major, as orjson (OPT_SERIALIZE_NUMPY) takes them; NaN and infinity become null."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.tolist() if flat.dtype == np.object_ else flat


def check_inputs(inputs: Mapping[str, Array], specs: Iterable[TensorSpec], *, max_rows: int) -> None:
    """Raise RequestRefused(400) unless `inputs` have the names, datatypes and shapes of the signature."""
    specs = tuple(specs)
    check_names(inputs, specs)
    sizes_of_symbols: dict[str, int] = {}
    for spec in specs:
        array = inputs[spec.name]
        if array.dtype != spec.datatype.numpy_type:
            raise RequestRefused(400, f"input `{spec.name}` is {array.dtype}; the model wants {spec.datatype.name}")
        check_shape(array.shape, spec, max_rows=max_rows)
        check_symbols(array.shape, spec, sizes_of_symbols)


def check_names(names: Iterable[str], specs: Iterable[TensorSpec]) -> None:
    """Raise RequestRefused(400) unless exactly the model's inputs are named, each once."""
    names, wanted = list(names), [spec.name for spec in specs]
    if names == wanted:  # what nearly every request names
        return
    given = set(names)
    if len(given) < len(names):
        raise RequestRefused(400, "an input is given twice")
    if unknown := given.difference(wanted):
        raise RequestRefused(400, f"unknown input {_quoted(sorted(unknown))}; the model has {_quoted(wanted)}")
    if missing := [name for name in wanted if name not in given]:
        raise RequestRefused(400, f"missing input {_quoted(missing)}")


def check_shape(shape: Sequence[int], spec: TensorSpec, *, max_rows: int) -> None:
    """Raise RequestRefused(400) unless `shape` fits the signature, without an empty axis or too many rows."""
    if spec.has_variable_rows and list(shape[1:]) == spec.row_shape and 1 <= shape[0] <= max_rows:
        return  # what nearly every request is
    fits = len(shape) == len(spec.shape) and all(
        wanted in (-1, size) for size, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise RequestRefused(
            400, f"input `{spec.name}` has shape {list(shape)}; the model wants {list(spec.shape)} (-1 is any size)"
        )
    if any(size == 0 and wanted == -1 for size, wanted in zip(shape, spec.shape, strict=True)):
        raise RequestRefused(400, f"input `{spec.name}` is empty: shape {list(shape)}")
    if spec.has_variable_rows and shape[0] > max_rows:
        raise RequestRefused(400, f"input `{spec.name}` has {shape[0]} rows; at most {max_rows} are taken at once")


def check_symbols(shape: Sequence[int], spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Raise RequestRefused(400) if a symbol of `spec` has another size in `sizes`; adds those of this `shape`.

    One symbol means one size throughout a graph: https://github.com/onnx/onnx/blob/main/docs/IR.md#static-tensor-shapes
    """
    for size, symbol in zip(shape, spec.dimensions, strict=True):
        if isinstance(symbol, str) and symbol and sizes.setdefault(symbol, size) != size:
            raise RequestRefused(
                400,
                f"input `{spec.name}` has shape {list(shape)}, but another input has {sizes[symbol]} for `{symbol}`",
            )


def _placed(words: str, place: str) -> str:
    """An error's words with `place` before the path that they end in; there may be none."""
    before, has_path, path = words.rpartition(" - at `$")
    if has_path:
        return f"{before} - at `{place}{path}"
    return words if place == "$" else f"{words} - at `{place}`"


def _out_of_range(elements: Any, datatype: Datatype) -> str:
    """The path of the first number that `datatype` cannot hold, `[2][63]`."""
    with np.errstate(over="ignore"):
        if datatype.json_type is int:
            numbers, limits = np.array(elements, np.object_), np.iinfo(datatype.numpy_type)
            is_outside = (numbers < limits.min) | (numbers > limits.max)
        else:
            is_outside = np.isinf(np.array(elements, np.float64).astype(datatype.numpy_type))
    first = np.argwhere(np.asarray(is_outside, np.bool_))[0]
    return "".join(f"[{index}]" for index in first)


@lru_cache(maxsize=128)
def _decoder(json_type: type, rank: int) -> msgspec.json.Decoder[Any]:
    nested: Any = json_type
    for _ in range(rank):
        nested = list[nested]
    return msgspec.json.Decoder(nested)


def _is_nested(data: msgspec.Raw) -> bool:
    """Whether the JSON array's first element is an array."""
    start = memoryview(data)
    if len(start) > 1 and start[1] not in SPACE:  # as nearly all is written
        return start[1] == ord("[")
    return bytes(start[:256]).translate(None, SPACE).startswith(b"[[")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
