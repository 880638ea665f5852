"""What OpenAPI says of /predict: rows in JSON, images where the manifest declares them, or a user's own bodies."""

from __future__ import annotations

from typing import Any

from model_service.images.openapi import TOP_K, image_contents, top_k_parameter
from model_service.openapi.operations import Schema, answers, any_of, json_content, operation, text_schema
from model_service.openapi.tensors import element_schema, example_of, nested_schema
from model_service.served import Served
from model_service.settings import Settings
from model_service.tensors import TensorSpec

ERRORS = ("400", "404", "413", "415", "500", "503", "504")


def paths(path: str, versions: list[Served], settings: Settings) -> dict[str, Any]:
    """The path, for any of these versions, the newest first; none where there are no rows that JSON could hold."""
    newest = versions[0]
    if newest.loaded.user_code.preprocess:
        body: dict[str, Any] | None = {"description": "What service.py's preprocess reads", "content": {"*/*": {}}}
    else:
        body = _body(versions, settings)
    if body is None:
        return {}
    members: dict[str, Any] = {"requestBody": body}
    if newest.loaded.roles.probabilities:
        members["parameters"] = [top_k_parameter()]
    answer = any_of([_answer_schema(served) for served in versions])
    answered = answers("The prediction, or one for each row", answer)
    described = operation("Predict one row or several", newest.model.name, answered, *ERRORS, **members)
    return {path: {"post": described}}


def _body(versions: list[Served], settings: Settings) -> dict[str, Any] | None:
    newest = versions[0]
    content: dict[str, Any] = {}
    in_json = [served for served in versions if _has_rows(served.model.inputs)]
    if in_json:
        schema = any_of([_rows_schema(served, settings.max_rows) for served in in_json])
        content = json_content(schema, _example(newest))
    if newest.loaded.images:
        content |= image_contents()
    return (
        {"description": "One row (`input`) or several (`inputs`)", "required": True, "content": content}
        if content
        else None
    )


def _has_rows(specs: tuple[TensorSpec, ...]) -> bool:
    """Whether JSON could hold rows of all inputs, as many of each."""
    fixed = {spec.shape[0] for spec in specs if spec.dimensions and not spec.has_variable_rows}
    return len(fixed) <= 1 and all(spec.datatype.json_type is not None and spec.dimensions for spec in specs)


def _rows_schema(served: Served, max_rows: int) -> Schema:
    """Either `input` or `inputs`; the other may be there as null."""
    specs = served.model.inputs
    row = _row_schema(specs)
    least, most = _row_counts(specs, max_rows)
    members: Schema = {
        "input": row,
        "inputs": {"type": ["array", "null"], "items": row, "minItems": least, "maxItems": most},
    }
    if served.loaded.roles.probabilities:
        members["top_k"] = TOP_K | {"type": ["integer", "null"]}
    several: Schema = {
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array"}},
        "not": {"required": ["input"]},
    }
    one: Schema = {"required": ["input"], "properties": {"inputs": {"type": "null"}}}
    return {"type": "object", "properties": members, "anyOf": [one, several] if least == 1 else [several]}


def _row_schema(specs: tuple[TensorSpec, ...]) -> Schema:
    """One row: an object of arrays by input, or for a model with one input the array alone, too."""
    arrays = {spec.name: nested_schema(element_schema(spec.datatype), spec.shape[1:]) for spec in specs}
    by_name: Schema = {
        "type": "object",
        "required": list(arrays),
        "properties": arrays,
        "additionalProperties": False,
    }
    return {"anyOf": [*arrays.values(), by_name]} if len(specs) == 1 else by_name


def _row_counts(specs: tuple[TensorSpec, ...], max_rows: int) -> tuple[int, int]:
    """How many rows are taken: as many as a fixed first axis has, or any number up to `max_rows`."""
    fixed = {spec.shape[0] for spec in specs if spec.shape[0] >= 0}
    return (max(fixed), max(fixed)) if fixed else (1, max_rows)


def _example(served: Served) -> Any:
    """A body with one row, or as many as the model wants, if there are any that can be shown."""
    specs = served.model.inputs
    arrays = {spec.name: example_of(served, spec) for spec in specs}
    if any(array is None or array.ndim == 0 for array in arrays.values()):
        return None
    rows = {name: array.tolist() for name, array in arrays.items() if array is not None}
    count = max(map(len, rows.values()))  # of inputs that take any number there is one
    each = [{name: of_input[at % len(of_input)] for name, of_input in rows.items()} for at in range(count)]
    plain = [row[specs[0].name] if len(specs) == 1 else row for row in each]
    return {"input": plain[0]} if count == 1 else {"inputs": plain}


def _answer_schema(served: Served) -> Schema:
    told: Schema = {
        "processing_time_ms": {"type": "number", "minimum": 0},
        "model": text_schema(),
        "version": text_schema(),
    }
    if served.loaded.user_code.postprocess:
        return {"type": "object", "description": "What service.py's postprocess answers"}
    prediction: Schema = {
        "prediction": {"description": "A label, a class or a value; a list where the output has several"},
        "confidence": {"type": ["number", "null"]},
    }
    if served.loaded.roles.probabilities:
        prediction["top_k"] = {"type": "array", "items": {"type": "object"}}
    one: Schema = {"type": "object", "required": [*told, "prediction", "confidence"], "properties": told | prediction}
    rows = {"type": "array", "items": {"type": "object", "required": ["prediction"], "properties": prediction}}
    return {
        "anyOf": [
            one,
            {"type": "object", "required": [*told, "predictions"], "properties": told | {"predictions": rows}},
        ]
    }
