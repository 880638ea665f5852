"""The Open Inference Protocol, version 2: the bodies of /v2, in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

    $inference_request  = { "id" : $string #optional, "parameters" : $parameters #optional,
                            "inputs" : [ $request_input, ... ], "outputs" : [ $request_output, ... ] #optional }
    $request_input      = { "name" : $string, "shape" : [ $number, ... ], "datatype" : $string,
                            "parameters" : $parameters #optional, "data" : $tensor_data }
    $request_output     = { "name" : $string, "parameters" : $parameters #optional }
    $inference_response = { "model_name" : $string, "model_version" : $string #optional, "id" : $string,
                            "parameters" : $parameters #optional, "outputs" : [ $response_output, ... ] }
    $response_output    = { "name" : $string, "shape" : [ $number, ... ], "datatype" : $string,
                            "parameters" : $parameters #optional, "data" : $tensor_data }
    $tensor_data        = flat in row-major order, or nested as the shape says

Members that are not listed are ignored: clients send `model_name` and others of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from msgspec import Meta

from model_service.errors import RequestRefused
from model_service.model import Model
from model_service.tensors import (
    Array,
    TensorSpec,
    check_inputs,
    check_names,
    check_shape,
    from_flat_or_nested_json,
    to_json,
)

SERVER_METADATA = {"name": "onnxship-model-service", "version": "0.1.0", "extensions": []}
NO_DATA = msgspec.Raw()

T = TypeVar("T")


class RequestInput(msgspec.Struct, frozen=True):
    """$request_input; `data` stays raw until the signature says what to read."""

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: msgspec.Raw = NO_DATA
    parameters: dict[str, Any] | None = None


class RequestOutput(msgspec.Struct, frozen=True):
    """$request_output."""

    name: str


class InferenceRequest(msgspec.Struct, frozen=True):
    """$inference_request."""

    inputs: list[RequestInput]
    id: str | None = None
    outputs: list[RequestOutput] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A body to send, and what the metrics count of it."""

    body: bytes
    rows: int
    compute_s: float


def decode_json(body: bytes, kind: type[T]) -> T:
    """`body` as `kind`. Raises RequestRefused(400) with the place of the first fault."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(400, f"the body cannot be used: {error}") from error


def model_metadata(model: Model) -> dict[str, Any]:
    """$metadata_model_response; -1 is a variable dimension."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [spec.describe() for spec in model.inputs],
        "outputs": [spec.describe() for spec in model.outputs],
    }


def infer(model: Model, body: bytes, *, max_rows: int) -> Answer:
    """$inference_response to the $inference_request in `body`. Raises RequestRefused."""
    request = decode_json(body, InferenceRequest)
    wanted = _wanted_outputs(request, model)
    inputs = _read_inputs(request, model, max_rows)
    outputs = model.run(inputs, [spec.name for spec in wanted])
    response: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        response["id"] = request.id
    response["outputs"] = [_response_output(spec, outputs.arrays[spec.name]) for spec in wanted]
    body = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(body, count_rows(model, inputs), outputs.compute_s)


def count_rows(model: Model, inputs: dict[str, Array]) -> int:
    """The rows of a request: the first axis of the first input that has a variable one, else 1."""
    return next((len(inputs[spec.name]) for spec in model.inputs if spec.has_variable_rows), 1)


def _wanted_outputs(request: InferenceRequest, model: Model) -> list[TensorSpec]:
    by_name = {spec.name: spec for spec in model.outputs}
    if not request.outputs:
        return list(model.outputs)
    for output in request.outputs:
        if output.name not in by_name:
            names = ", ".join(f"`{name}`" for name in by_name)
            raise RequestRefused(400, f"unknown output `{output.name}`; the model has {names}")
    return [by_name[output.name] for output in request.outputs]


def _read_inputs(request: InferenceRequest, model: Model, max_rows: int) -> dict[str, Array]:
    """Names, then shapes, then elements: nothing large is read before it is known to fit."""
    given = {item.name: item for item in request.inputs}
    if len(given) != len(request.inputs):
        raise RequestRefused(400, "an input is given twice")
    check_names(given, model.inputs)
    arrays = {spec.name: _read_input(given[spec.name], spec, max_rows) for spec in model.inputs}
    check_inputs(arrays, model.inputs, max_rows=max_rows)
    return arrays


def _read_input(item: RequestInput, spec: TensorSpec, max_rows: int) -> Array:
    what = f"input `{item.name}`"
    if item.datatype != spec.datatype.name:
        raise RequestRefused(400, f"{what} is {item.datatype}; the model wants {spec.datatype.name}")
    check_shape(item.shape, spec, max_rows=max_rows)
    if "binary_data_size" in (item.parameters or {}):
        raise RequestRefused(400, f"{what} is sent as binary data; this server takes JSON tensors only")
    if item.data is NO_DATA:
        raise RequestRefused(400, f"{what} has no `data`")
    return from_flat_or_nested_json(item.data, spec.datatype, item.shape, what=f"the data of {what}")


def _response_output(spec: TensorSpec, array: Array) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.datatype.name,
        "shape": list(array.shape),
        "data": to_json(array),
    }
