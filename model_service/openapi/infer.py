"""What OpenAPI says of /infer: the Open Inference Protocol's JSON, and the extension for binary tensors."""

from __future__ import annotations

from typing import Any

from model_service.inference.classification import has_classes
from model_service.openapi.operations import (
    BINARY,
    JSON,
    REQUEST_ID,
    Schema,
    any_of,
    json_content,
    operation,
    text_schema,
)
from model_service.openapi.tensors import input_example, input_schema, output_schema
from model_service.runtime.model import Model
from model_service.served import Served
from model_service.settings import Settings

LENGTH = "Inference-Header-Content-Length"
LENGTH_WORDS = "The bytes of the JSON before the binary tensors"
BINARY_WORDS = (
    "JSON, with `binary_data_size` among an input's `parameters` in place of its `data`; right behind "
    f"it the tensors' bytes, little-endian. The header `{LENGTH}` says where the JSON ends; where it is 0, all of the "
    "body is the only input's one row."
)


def paths(path: str, versions: list[Served], settings: Settings) -> dict[str, Any]:
    """The path, for any of these versions, the newest first."""
    newest = versions[0]
    models = [served.model for served in versions]
    answered = {
        "description": "The outputs",
        "headers": REQUEST_ID
        | {LENGTH: {"description": f"{LENGTH_WORDS}, where there are any", "schema": {"type": "integer"}}},
        "content": json_content(any_of([_response_schema(model) for model in models])) | {BINARY: {"schema": {}}},
    }
    described = operation(
        "Infer, by the Open Inference Protocol",
        newest.model.name,
        {"200": answered},
        *("400", "404", "413", "415", "500", "503", "504"),
        requestBody={"description": "Tensors by name", "required": True, "content": _request(newest, models, settings)},
    )
    return {path: {"post": described}}


def _request(newest: Served, models: list[Model], settings: Settings) -> dict[str, Any]:
    content: dict[str, Any] = {BINARY: {"schema": {"description": BINARY_WORDS}}}
    in_json = [model for model in models if all(spec.datatype.json_type is not None for spec in model.inputs)]
    if in_json:
        tensors = [input_example(newest, spec) for spec in newest.model.inputs]
        example = {"inputs": tensors} if all(tensors) else None
        schema = any_of([_request_schema(model, settings.max_rows) for model in in_json])
        content = {JSON: json_content(schema, example)[JSON]} | content
    return content


def _request_schema(model: Model, max_rows: int) -> Schema:
    inputs = [input_schema(spec, max_rows) for spec in model.inputs]
    output = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": list(model.output_names)},
            "parameters": _parameters("binary_data", null=True, classes=all(map(has_classes, model.outputs))),
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Comes back with the answer"},
            "inputs": {
                "type": "array",
                "minItems": len(inputs),
                "maxItems": len(inputs),
                "items": inputs[0] if len(inputs) == 1 else {"oneOf": inputs},
            },
            "outputs": {
                "type": ["array", "null"],
                "items": output,
                "description": "Those that are wanted; all, if none is named",
            },
            "parameters": _parameters("binary_data_output", timeout=True),
        },
    }


def _parameters(flag: str, *, null: bool = False, timeout: bool = False, classes: bool = False) -> Schema:
    """$parameters with what of them is read; any others may stand there too."""
    known: Schema = {
        flag: {"type": ["boolean", "null"] if null else "boolean", "description": "As bytes behind the JSON"}
    }
    if classes:
        words = 'So many of its highest elements, as strings "value:index[:label]"; 0 is the output as it is'
        known["classification"] = {"type": "integer", "minimum": 0, "description": words}
    if timeout:
        words = "In microseconds, from when the request came; 0 is none"
        known["timeout"] = {"type": "integer", "minimum": 0, "description": words}
    return {"type": ["object", "null"] if null else "object", "properties": known}


def _response_schema(model: Model) -> Schema:
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "id": text_schema(),
            "model_name": text_schema(const=model.name),
            "model_version": text_schema(),
            "outputs": {"type": "array", "items": any_of([output_schema(spec) for spec in model.outputs])},
        },
    }
