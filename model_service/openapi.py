"""/openapi.json, made from the loaded model's signature, with an example that can be sent as it stands."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_service.images.openapi import TOP_K, image_contents, top_k_parameter
from model_service.protocol import model_metadata
from model_service.served import Served
from model_service.serving import Serving
from model_service.tensors import Array, TensorSpec

MAX_EXAMPLE_ELEMENTS = 1024
JSON_TYPES: dict[type | None, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
ERROR = {
    "description": "Refused; the body says why.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}


def describe(serving: Serving) -> dict[str, Any]:
    """The OpenAPI document of what is served now; before the model is loaded, of the health endpoints alone."""
    served = serving.models.default
    version = f"{served.model.name} {served.model.version}" if served else "loading"
    paths: dict[str, Any] = {
        "/v2/health/live": {"get": _operation("Whether the process lives", "health")},
        "/v2/health/ready": {"get": _operation("Whether the model is ready", "health")},
        "/v2": {"get": _operation("The server", "metadata")},
    }
    if served:
        paths |= _model_paths(served)
    return {
        "openapi": "3.1.0",
        "info": {"title": "onnxship model service", "version": version, "description": _streams(served)},
        "paths": paths,
    }


def _streams(served: Served | None) -> str:
    """What this document has no form for: https://spec.openapis.org/oas/v3.1.0 knows no WebSockets."""
    name = served.model.name if served else "{model}"
    return (
        f"`GET /v2/models/{name}/stream` is a WebSocket, which cannot be described here: each message is a body of "
        "`/infer`, as text in JSON, or binary as a little-endian uint32 with the length of the JSON, the JSON, and the "
        "tensors behind it. Answers come in the order of the messages."
    )


def _model_paths(served: Served) -> dict[str, Any]:
    model = served.model
    base = f"/v2/models/{model.name}"
    metadata = _operation("The model's inputs and outputs", "metadata")
    metadata["responses"]["200"] = _json("The model", None, model_metadata(model, [model.version]))
    return {
        base: {"get": metadata},
        f"{base}/ready": {"get": _operation("Whether this model is ready", "health")},
        f"{base}/infer": {"post": _infer(served)},
        "/predict": {"post": _predict(served)},
    }


def _infer(served: Served) -> dict[str, Any]:
    tensors = [_tensor(spec, _example(served, spec)) for spec in served.model.inputs]
    example = {"inputs": tensors} if all(tensors) else None
    operation = _operation("Infer, by the Open Inference Protocol", "inference")
    operation["requestBody"] = _json("Tensors by name", {"type": "object", "required": ["inputs"]}, example)
    return operation


def _predict(served: Served) -> dict[str, Any]:
    operation = _operation("Predict one row or several", "inference")
    if served.loaded.user_code.preprocess:
        operation["requestBody"] = {"description": "What service.py's preprocess reads", "content": {"*/*": {}}}
        return operation
    inputs = served.model.inputs
    rows = {spec.name: _row_example(served, spec) for spec in inputs}
    row_schema: dict[str, Any] = {
        "type": "object",
        "required": [spec.name for spec in inputs],
        "properties": {spec.name: _array_schema(spec, spec.shape[1:]) for spec in inputs},
    }
    if len(inputs) == 1:
        row_schema = row_schema["properties"][inputs[0].name]
    row = rows[inputs[0].name] if len(inputs) == 1 else rows
    example = None if None in rows.values() else {"input": row}
    members = {"input": row_schema, "inputs": {"type": "array", "items": row_schema, "minItems": 1}}
    if served.loaded.roles.probabilities:
        members["top_k"] = TOP_K
        operation["parameters"] = [top_k_parameter()]
    schema = {"type": "object", "properties": members}
    operation["requestBody"] = _json("One row (`input`) or several (`inputs`)", schema, example)
    if served.loaded.images:
        operation["requestBody"]["content"] |= image_contents()
    return operation


def _example(served: Served, spec: TensorSpec) -> Array | None:
    """One row, golden if there is one; None where it is too long to show, or JSON has no form for it."""
    array = served.loaded.row[spec.name]
    is_finite = spec.datatype.json_type is not float or bool(np.isfinite(array).all())
    has_form = spec.datatype.json_type is not None and is_finite
    return array if has_form and array.size <= MAX_EXAMPLE_ELEMENTS else None


def _row_example(served: Served, spec: TensorSpec) -> Any:
    array = _example(served, spec)
    return None if array is None or array.ndim == 0 else array[0].tolist()


def _tensor(spec: TensorSpec, array: Array | None) -> dict[str, Any] | None:
    if array is None:
        return None
    facts = {"name": spec.name, "datatype": spec.datatype.name, "shape": list(array.shape)}
    return {**facts, "data": array.reshape(-1).tolist()}


def _array_schema(spec: TensorSpec, shape: tuple[int, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": JSON_TYPES[spec.datatype.json_type]}
    for size in reversed(shape):
        fixed = {"minItems": size, "maxItems": size} if size >= 0 else {}
        schema = {"type": "array", "items": schema, **fixed}
    return schema


def _operation(summary: str, tag: str) -> dict[str, Any]:
    return {"summary": summary, "tags": [tag], "responses": {"200": {"description": "OK"}, "default": ERROR}}


def _json(description: str, schema: dict[str, Any] | None, example: Any) -> dict[str, Any]:
    media = {key: value for key, value in (("schema", schema), ("example", example)) if value is not None}
    return {"description": description, "content": {"application/json": media}}
