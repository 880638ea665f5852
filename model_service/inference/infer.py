"""One inference by the Open Inference Protocol: from a request's body to the answer's, in JSON or with binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extension_binary_data.md
The body is JSON, and right behind it come the raw tensors in the order in which the JSON names them; the header
Inference-Header-Content-Length tells where the JSON ends. Without that header all of the body is JSON; where it says 0,
all of it is the raw tensor of the model's only input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from model_service.errors import RequestRefused
from model_service.inference.binary_tensors import from_bytes, to_bytes
from model_service.inference.body import Body
from model_service.inference.classification import CLASSIFIED, LabelsOf, check_classification, classify
from model_service.inference.protocol import NO_DATA, InferenceRequest, RequestInput, decode_request
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import (
    Array,
    Datatype,
    TensorSpec,
    check_names,
    check_shape,
    check_symbols,
    element_count,
    from_flat_or_nested_json,
    to_json,
)

BINARY_TYPE = b"application/octet-stream"


class InferWork(msgspec.Struct, eq=False):
    """An inference request to `model`. `json_length` is the header that tells where its JSON ends, if there is one."""

    model: Model
    body: Body
    json_length: bytes | None
    max_rows: int
    labels_of: LabelsOf
    classes: dict[str, int] = {}
    asked: tuple[str, ...] = ()  # the outputs
    request: InferenceRequest | None = None

    def read(self) -> Inputs:
        """The inputs, checked: names first, then shapes, then elements, so that nothing large is read in vain."""
        model, content, tail = self.model, self.body.read(), memoryview(b"")
        self.asked = model.output_names
        if self.json_length is not None:
            length = _parse_length(self.json_length, len(content))
            if length == 0:
                return self._read_raw(content)
            content, tail = content[:length], memoryview(content)[length:]
        self.request = request = decode_request(content)
        check_names([item.name for item in request.inputs], model.inputs)
        if request.outputs:
            self.asked = asked_outputs([output.name for output in request.outputs], model)
            self.classes = request.classes
            for name in self.classes:
                check_classification(model.outputs_by_name[name])
        arrays = _read_tensors(request.inputs, model, tail, self.max_rows)
        if len(arrays) > 1:
            arrays = {spec.name: arrays[spec.name] for spec in model.inputs}
        return Inputs(arrays, model.count_rows(arrays), self.asked, request.timeout_s)

    @property
    def request_id(self) -> str | None:
        """The request's `id`, once it is read; None if it has none."""
        return self.request.id if self.request else None

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """$inference_response with the outputs that were asked for."""
        model, request = self.model, self.request
        response: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
        if request and request.id is not None:
            response["id"] = request.id
        tensors, tail = [], []
        for name in self.asked:
            datatype, array = self._chosen(model.outputs_by_name[name], outputs[name])
            tensor: dict[str, Any] = {"name": name, "datatype": datatype.name, "shape": array.shape}
            if request is None or request.wants_binary(name):
                data = to_bytes(array)
                tensor["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            elif datatype.json_type is None:
                words = f"JSON has no form for {datatype.name}; ask for binary tensor data"
                raise RequestRefused(400, f"output `{name}`: {words}")
            else:
                tensor["data"] = to_json(array)
            tensors.append(tensor)
        response["outputs"] = tensors
        json = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
        # As Triton does, no header when no byte follows, although an empty tensor was asked for as binary.
        if not any(map(len, tail)):
            return Answer(json)
        return Answer(b"".join((json, *tail)), BINARY_TYPE, len(json))

    def _chosen(self, spec: TensorSpec, array: Array) -> tuple[Datatype, Array]:
        """The output as it is, or its classes."""
        if spec.name not in self.classes:
            return spec.datatype, array
        return CLASSIFIED, classify(array, spec, self.classes[spec.name], self.labels_of.get(spec.name, ()))

    def _read_raw(self, content: bytes) -> Inputs:
        """A raw binary request: no JSON, one input of one row, at most one further variable dimension."""
        model = self.model
        if len(model.inputs) != 1:
            raise RequestRefused(400, f"a raw binary request needs a model with one input; it has {len(model.inputs)}")
        spec = model.inputs[0]
        shape = _raw_shape(spec, len(content))
        check_shape(shape, spec, max_rows=self.max_rows)
        if spec.datatype.name == "BYTES":
            if element_count(shape) != 1:
                words = f"a raw binary request is one element; `{spec.name}` is {list(spec.shape)}"
                raise RequestRefused(400, words)
            try:
                array = np.array([str(content, "utf-8")], np.object_).reshape(shape)
            except UnicodeDecodeError as error:
                raise RequestRefused(400, "the body is not UTF-8 text") from error
        else:
            array = from_bytes(memoryview(content), spec.datatype, shape, what="the body")
        return Inputs({spec.name: array}, 1, model.output_names)


def _parse_length(header: bytes, content_bytes: int) -> int:
    """The length of the JSON: of the decompressed body, whatever Content-Length says."""
    if not header.isdigit() or len(header) > 20 or int(header) > content_bytes:
        text = header[:40].decode("latin-1")
        raise RequestRefused(400, f"Inference-Header-Content-Length is `{text}`, not a number up to {content_bytes}")
    return int(header)


def _read_tensors(items: list[RequestInput], model: Model, tail: memoryview, max_rows: int) -> dict[str, Array]:
    """Every input's array; the tensors behind the JSON stand in the order of the request."""
    at = 0
    arrays: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for item in items:
        spec = model.inputs_by_name[item.name]
        size = item.binary_data_size
        if size is None:
            arrays[item.name] = _read_json(item, spec, max_rows)
        else:
            if item.data is not NO_DATA:
                raise RequestRefused(400, f"input `{item.name}` has both `data` and `binary_data_size`")
            if at + size > len(tail):
                left = len(tail) - at
                raise RequestRefused(400, f"input `{item.name}` has {size} bytes after the JSON, where {left} are left")
            arrays[item.name] = _read_binary(item, spec, tail[at : at + size], max_rows)
            at += size
        if model.shares_symbols:
            check_symbols(arrays[item.name].shape, spec, sizes)
    if at != len(tail):
        raise RequestRefused(400, f"the body has {len(tail) - at} bytes after its last tensor")
    return arrays


def _read_json(item: RequestInput, spec: TensorSpec, max_rows: int) -> Array:
    check_header(item.datatype, item.shape, spec, max_rows=max_rows)
    if item.data is NO_DATA:
        raise RequestRefused(400, f"input `{item.name}` has no `data`")
    return from_flat_or_nested_json(item.data, spec.datatype, item.shape, what=f"the data of input `{item.name}`")


def _read_binary(item: RequestInput, spec: TensorSpec, data: memoryview, max_rows: int) -> Array:
    check_header(item.datatype, item.shape, spec, max_rows=max_rows)
    return from_bytes(data, spec.datatype, item.shape, what=f"the data of input `{item.name}`")


def check_header(datatype: str, shape: Sequence[int], spec: TensorSpec, *, max_rows: int) -> None:
    """Raise RequestRefused(400) unless what a request says of an input fits the signature."""
    if datatype != spec.datatype.name:
        raise RequestRefused(400, f"input `{spec.name}` is {datatype}; the model wants {spec.datatype.name}")
    check_shape(shape, spec, max_rows=max_rows)


def asked_outputs(names: Sequence[str], model: Model) -> tuple[str, ...]:
    """The outputs that are asked for by `names`, each once, all where there are none. Raises RequestRefused(400).

    Once, as in Triton: else a small request could ask for an answer of any size.
    """
    for name in names:
        if name not in model.outputs_by_name:
            known = ", ".join(f"`{known}`" for known in model.output_names)
            raise RequestRefused(400, f"unknown output `{name}`; the model has {known}")
    return tuple(dict.fromkeys(names)) or model.output_names


def _raw_shape(spec: TensorSpec, body_bytes: int) -> list[int]:
    """The shape of a raw tensor: one row, and a second variable dimension from the number of bytes."""
    shape = [1 if axis == 0 and size == -1 else size for axis, size in enumerate(spec.shape)]
    variable = [axis for axis, size in enumerate(shape) if size == -1]
    if len(variable) > 1:
        raise RequestRefused(400, f"a raw binary request leaves the shape {list(spec.shape)} of `{spec.name}` open")
    if variable and spec.datatype.name == "BYTES":
        shape[variable[0]] = 1  # the whole body is one element
    elif variable:
        fixed = element_count([size for size in shape if size != -1]) * spec.datatype.numpy_type.itemsize
        shape[variable[0]] = body_bytes // fixed if fixed else 0
    return shape
