"""The Open Inference Protocol, version 2: the JSON of /v2, and what the server and its models say of themselves.

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

import contextlib
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, structs

from model_service.errors import RequestRefused
from model_service.json_numbers import cut_out
from model_service.runtime.model import Model

SERVER = {"name": "onnxship-model-service", "version": "0.1.0"}
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "statistics"]
SERVER_METADATA = {**SERVER, "extensions": EXTENSIONS}
# What would change the answer and is not done here must not be ignored.
NO_SHARED_MEMORY = "shared_memory_region is not supported: send the data with the request"
NO_SEQUENCES = "sequence_id is not supported: each request stands for itself"
NO_DATA = msgspec.Raw()
US_PER_S = 1_000_000

T = TypeVar("T")


class InputParameters(msgspec.Struct, frozen=True):
    """Parameters of an input; `binary_data_size` says that its data stands behind the JSON."""

    binary_data_size: Annotated[int, Meta(ge=0)] | None = None
    shared_memory_region: str | None = None

    def __post_init__(self) -> None:
        _refuse_shared_memory(self.shared_memory_region)


class RequestInput(msgspec.Struct, frozen=True):
    """$request_input; `data` stays raw until the signature says what to read."""

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: msgspec.Raw = NO_DATA
    parameters: InputParameters | None = None

    @property
    def binary_data_size(self) -> int | None:
        """The bytes of its data behind the JSON; None if the data is in the JSON."""
        return self.parameters.binary_data_size if self.parameters else None


class OutputParameters(msgspec.Struct, frozen=True):
    """Parameters of a requested output; `classification` asks for so many of its highest elements, 0 for none."""

    binary_data: bool | None = None
    classification: Annotated[int, Meta(ge=0)] = 0
    shared_memory_region: str | None = None

    def __post_init__(self) -> None:
        _refuse_shared_memory(self.shared_memory_region)


class RequestOutput(msgspec.Struct, frozen=True):
    """$request_output."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct, frozen=True):
    """Parameters of a request. `timeout` is in microseconds, as Triton's is; 0 is none.

    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_schedule_policy.html
    """

    binary_data_output: bool = False
    timeout: Annotated[int, Meta(ge=0)] = 0
    sequence_id: int | str = 0

    def __post_init__(self) -> None:
        if self.sequence_id:
            raise ValueError(NO_SEQUENCES)


NO_PARAMETERS = RequestParameters()


class InferenceRequest(msgspec.Struct, frozen=True):
    """$inference_request."""

    inputs: list[RequestInput]
    id: str | None = None
    outputs: list[RequestOutput] | None = None
    parameters: RequestParameters = NO_PARAMETERS

    @property
    def timeout_s(self) -> float | None:
        """How long it may wait; None if it does not say."""
        return self.parameters.timeout / US_PER_S if self.parameters.timeout else None

    def wants_binary(self, name: str) -> bool:
        """Whether output `name` is to be sent behind the JSON."""
        for output in self.outputs or ():
            if output.name == name and output.parameters and output.parameters.binary_data is not None:
                return output.parameters.binary_data
        return self.parameters.binary_data_output

    @property
    def classes(self) -> dict[str, int]:
        """How many classes are asked for of each output; an output itself is not among them."""
        return {
            output.name: output.parameters.classification
            for output in self.outputs or ()
            if output.parameters and output.parameters.classification
        }


# Made here, when the module is imported: threads that make decoders of the same structs at once crash the process,
# because msgspec shows a struct's fields to the one before it has filled them in for the other.
REQUEST_DECODER = msgspec.json.Decoder(InferenceRequest)


def decode_json(body: bytes | memoryview, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` as what `decoder` reads. Raises RequestRefused(400) with the place of the first fault."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body:
            raise RequestRefused(400, "the body is empty") from error
        raise RequestRefused(400, f"the body cannot be used: {_told(error, bytes(body))}") from error


def _told(error: Exception, body: bytes) -> str:
    """The decoder's words, and what commonly leads to them."""
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    words = str(error)
    if words == "Input data was truncated":
        return "its JSON is truncated"
    place = re.search(r"invalid character \(byte (\d+)\)", words)
    if place and body.startswith((b"NaN", b"Infinity"), int(place[1])):
        return f"{words}; JSON has no NaN and no Infinity, binary tensors have"
    if "trailing characters" in words and b"binary_data_size" in body:
        return f"{words}; tensors behind the JSON need the header Inference-Header-Content-Length, the JSON's length"
    return words


def decode_request(body: bytes) -> InferenceRequest:
    """`body` as $inference_request. Raises RequestRefused(400) with the place of the first fault."""
    short, arrays = cut_out(body)
    if arrays:
        with contextlib.suppress(RequestRefused):  # which is told below, with its place in the body
            request = decode_json(short, REQUEST_DECODER)
            inputs = [_with_its_array(item, arrays) for item in request.inputs]
            if not arrays:
                return structs.replace(request, inputs=inputs)
    return decode_json(body, REQUEST_DECODER)


def _with_its_array(item: RequestInput, arrays: dict[bytes, bytes]) -> RequestInput:
    array = arrays.pop(bytes(item.data), None)
    return item if array is None else structs.replace(item, data=msgspec.Raw(array))


def model_metadata(model: Model, versions: list[str]) -> dict[str, Any]:
    """$metadata_model_response; -1 is a variable dimension."""
    return {
        "name": model.name,
        "versions": versions,
        "platform": model.platform,
        "parameters": model.runs_on.describe(),
        "inputs": [spec.describe() for spec in model.inputs],
        "outputs": [spec.describe() for spec in model.outputs],
    }


def _refuse_shared_memory(region: str | None) -> None:
    """Where msgspec calls it, which adds the place."""
    if region is not None:
        raise ValueError(NO_SHARED_MEMORY)
