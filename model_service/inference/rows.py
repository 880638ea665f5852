"""Rows in JSON, as /predict takes them: one as `input`, several as `inputs`."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from model_service.errors import RequestRefused
from model_service.inference.classes import MAX_TOP_K
from model_service.inference.protocol import NO_DATA, decode_json
from model_service.runtime.model import Model
from model_service.tensors import Array, TensorSpec, check_inputs, check_names, check_shape, check_symbols, from_json


class PredictRequest(msgspec.Struct, frozen=True):
    """The body; exactly one of `input` and `inputs` is given."""

    input: msgspec.Raw = NO_DATA
    inputs: list[msgspec.Raw] | None = None
    top_k: Annotated[int, Meta(ge=1, le=MAX_TOP_K)] | None = None


REQUEST_DECODER = msgspec.json.Decoder(PredictRequest)  # when this is imported: see protocol.py
ROW_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Rows(msgspec.Struct, frozen=True, gc=False):
    """The rows as one array for each input, whether they came as `input`, and the body's `top_k`."""

    arrays: dict[str, Array]
    is_single: bool
    top_k: int | None


class Element(NamedTuple):
    """An input's array in one row; `place` is its path in the body, `$.inputs[2].age`."""

    data: msgspec.Raw
    place: str


def read_rows(model: Model, body: bytes, max_rows: int) -> Rows:
    """The rows in `body`. Raises RequestRefused(400) with the place of the fault."""
    request = decode_json(body, REQUEST_DECODER)
    is_single = request.input is not NO_DATA
    if is_single == (request.inputs is not None):
        raise RequestRefused(400, 'the body needs either "input" (one row) or "inputs" (a list of rows)')
    if is_single and (arrays := _one_row(model, request.input)) is not None:
        return Rows(arrays, is_single, request.top_k)
    wanted = _rows_of(model)
    rows = [request.input] if is_single else request.inputs
    if not rows:
        raise RequestRefused(400, '"inputs" is empty')
    _check_count(len(rows), wanted, max_rows)
    places = ["$.input"] if is_single else [f"$.inputs[{index}]" for index in range(len(rows))]
    by_name = [_by_name(model, row, place) for row, place in zip(rows, places, strict=True)]
    arrays = {spec.name: _stack(spec, [row[spec.name] for row in by_name]) for spec in model.inputs}
    check_inputs(arrays, model.inputs, max_rows=max_rows)
    return Rows(arrays, is_single, request.top_k)


def _one_row(model: Model, row: msgspec.Raw) -> dict[str, Array] | None:
    """What nearly every request is, one row for a model's only input, without what other requests need; None if it is
    another."""
    if len(model.inputs) != 1 or not model.inputs[0].has_variable_rows or _is_object(row):
        return None
    spec = model.inputs[0]
    array = from_json(row, spec.datatype, len(spec.dimensions) - 1, what=_what(spec), place="$.input")[np.newaxis]
    check_shape(array.shape, spec, max_rows=1)
    if model.shares_symbols:
        check_symbols(array.shape, spec, {})
    return {spec.name: array}


def _is_object(row: msgspec.Raw) -> bool:
    return memoryview(row)[0] == ord("{")


def _what(spec: TensorSpec) -> str:
    return f"a row of input `{spec.name}`"


def _rows_of(model: Model) -> int | None:
    """How many rows the model takes, None for any number. Raises RequestRefused(400) where its inputs have no rows."""
    elsewhere = f"send this model's requests to /v2/models/{model.name}/infer"
    wanted = None
    for spec in model.inputs:
        if not spec.dimensions:
            raise RequestRefused(400, f"input `{spec.name}` has no rows; {elsewhere}")
        if not spec.has_variable_rows:
            if wanted not in (None, spec.shape[0]):
                raise RequestRefused(400, f"inputs have {wanted} rows and {spec.shape[0]}; {elsewhere}")
            wanted = spec.shape[0]
    return wanted


def _check_count(count: int, wanted: int | None, max_rows: int) -> None:
    if wanted is None and count > max_rows:
        raise RequestRefused(400, f'"inputs" has {count} rows; at most {max_rows} are taken at once')
    if wanted not in (None, count):
        rows = "one row" if wanted == 1 else f"{wanted} rows"
        raise RequestRefused(400, f"this model takes {rows} in each request; the body has {count}")


def _by_name(model: Model, row: msgspec.Raw, place: str) -> dict[str, Element]:
    """A row's raw arrays by input name; a bare array belongs to a model's only input."""
    is_object = _is_object(row)
    if len(model.inputs) == 1 and not is_object:
        return {model.inputs[0].name: Element(row, place)}
    if not is_object:
        names = [spec.name for spec in model.inputs]
        form = ", ".join(f'"{name}": [...]' for name in names)
        listed = " and ".join(f"`{name}`" for name in names)
        raise RequestRefused(
            400, f"this model has {len(names)} inputs, {listed}: a row is an object of them, {{{form}}}"
        )
    arrays = decode_json(bytes(memoryview(row)), ROW_DECODER)
    try:
        check_names(arrays, model.inputs)
    except RequestRefused as refused:
        raise RequestRefused(400, f"{refused.message} - at `{place}`") from refused
    return {name: Element(data, f"{place}.{name}") for name, data in arrays.items()}


def _stack(spec: TensorSpec, elements: list[Element]) -> Array:
    what, rank = _what(spec), len(spec.dimensions) - 1
    arrays = [from_json(element.data, spec.datatype, rank, what=what, place=element.place) for element in elements]
    shape = arrays[0].shape
    for array, element in zip(arrays, elements, strict=True):
        if array.shape != shape:
            raise RequestRefused(
                400,
                f"the rows of input `{spec.name}` have different shapes: {list(shape)} at `{elements[0].place}`, "
                f"{list(array.shape)} at `{element.place}`",
            )
    return np.stack(arrays)
