"""Tensors as JSON Schema, and as examples."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_service.inference.classification import CLASSIFIED, has_classes
from model_service.openapi.operations import Schema, text_schema
from model_service.served import Served
from model_service.tensors import Array, Datatype, TensorSpec

MAX_EXAMPLE_ELEMENTS = 1024
JSON_TYPES: dict[type | None, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def element_schema(datatype: Datatype) -> Schema:
    """An element of a tensor in a request, within the datatype's range."""
    schema: Schema = {"type": JSON_TYPES[datatype.json_type]}
    if datatype.json_type is int:
        limits = np.iinfo(datatype.numpy_type)
        return schema | {"minimum": int(limits.min), "maximum": int(limits.max)}
    if datatype.json_type is float and datatype.numpy_type.itemsize < np.dtype(np.float64).itemsize:
        greatest = np.finfo(datatype.numpy_type).max
        step = float(greatest) - float(np.nextafter(greatest, greatest.dtype.type(0)))
        limit = float(greatest) + step / 2  # what is nearer to the greatest is rounded to it
        return schema | {"exclusiveMinimum": -limit, "exclusiveMaximum": limit}
    return schema


def nested_schema(element: Schema, shape: tuple[int, ...], *, max_rows: int | None = None) -> Schema:
    """An array of `shape`, nested; -1 is any size from 1, for the first axis up to `max_rows` if that is given."""
    schema = element
    for axis, size in reversed(list(enumerate(shape))):
        sizes = {"minItems": size, "maxItems": size} if size >= 0 else {"minItems": 1}
        if size < 0 and axis == 0 and max_rows is not None:
            sizes["maxItems"] = max_rows
        schema = {"type": "array", "items": schema, **sizes}
    return schema


def shape_schema(spec: TensorSpec, max_rows: int) -> Schema:
    """The `shape` of an input."""
    sizes: list[Schema] = [{"const": size} if size >= 0 else {"type": "integer", "minimum": 1} for size in spec.shape]
    if spec.has_variable_rows:
        sizes[0]["maximum"] = max_rows
    rank = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
    return rank | ({"prefixItems": sizes} if sizes else {})


def input_schema(spec: TensorSpec, max_rows: int) -> Schema:
    """$request_input for this input, its data in JSON."""
    element = element_schema(spec.datatype)
    forms = [{"type": "array", "items": element}]
    if len(spec.shape) > 1:
        forms.append(nested_schema(element, spec.shape, max_rows=max_rows))
    facts = {
        "name": {"const": spec.name},
        "datatype": {"const": spec.datatype.name},
        "shape": shape_schema(spec, max_rows),
        "data": {"description": "Row-major, flat or nested as `shape` says", "anyOf": forms},
    }
    return {"type": "object", "required": list(facts), "properties": facts}


def output_schema(spec: TensorSpec) -> Schema:
    """$response_output for this output, or its classes: `data` in JSON, or `binary_data_size` bytes behind it."""
    datatypes = [spec.datatype.name] + ([CLASSIFIED.name] if has_classes(spec) else [])
    json_type = JSON_TYPES.get(spec.datatype.json_type, "null")
    # NaN and infinity, for which JSON has no form, are null.
    types = [json_type] + (["null"] if json_type == "number" else []) + (["string"] if has_classes(spec) else [])
    element = {"type": types if len(types) > 1 else json_type}
    size = {"type": "object", "required": ["binary_data_size"], "properties": {"binary_data_size": {"type": "integer"}}}
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": text_schema(const=spec.name),
            "datatype": text_schema(enum=datatypes),
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array", "items": element},
            "parameters": size,
        },
    }


def example_of(served: Served, spec: TensorSpec) -> Array | None:
    """One row, golden if there is one; None where it is too long to show, or JSON has no form for it."""
    array = served.loaded.row[spec.name]
    is_finite = spec.datatype.json_type is not float or bool(np.isfinite(array).all())
    has_form = spec.datatype.json_type is not None and is_finite
    return array if has_form and array.size <= MAX_EXAMPLE_ELEMENTS else None


def input_example(served: Served, spec: TensorSpec) -> dict[str, Any] | None:
    """$request_input with the example's data, if there is one."""
    array = example_of(served, spec)
    if array is None:
        return None
    return spec.describe() | {"shape": list(array.shape), "data": array.reshape(-1).tolist()}
