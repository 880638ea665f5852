"""The words of OpenAPI that every operation is put together from."""

from __future__ import annotations

from typing import Any

from model_service.served import Served

Schema = dict[str, Any]

JSON = "application/json"
BINARY = "application/octet-stream"
REQUEST_ID = {
    "X-Request-Id": {
        "description": "The caller's own, the load balancer's, or one that was made; the log has it",
        "required": True,
        "schema": {"type": "string"},
    }
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}}
ERROR_SCHEMA: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
WHY = {
    "400": "The request cannot be answered; the body names what is wrong with it",
    "401": "A good API key is missing",
    "403": "The API key is good, but not of the scope `infer`",
    "404": "There is no such model or version",
    "413": "The body is too large, as it came or decompressed",
    "415": "The Content-Encoding, or the kind of image, is not one of those that are taken",
    "500": "A fault of the model's own code or of this server; the log has its cause under the X-Request-Id",
    "503": "Too much waits already, or the model is still loading: come again after Retry-After",
    "504": "The deadline passed before the model could run",
}
KEY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}


def operation(summary: str, tag: str, answered: dict[str, Any], *errors: str, **members: Any) -> dict[str, Any]:
    """An operation that is answered so, or with one of `errors`."""
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in errors}
    return {"summary": summary, "tags": [tag], **members, "responses": answered | refused}


def answers(description: str, schema: Schema, example: Any = None, *, status: str = "200") -> dict[str, Any]:
    """The answer of a status, in JSON."""
    return {status: {"description": description, "headers": REQUEST_ID, "content": json_content(schema, example)}}


def json_content(schema: Schema, example: Any = None) -> dict[str, Any]:
    """The `content` of a body in JSON, with an example if there is one."""
    return {JSON: {"schema": schema} | ({} if example is None else {"example": example})}


def text_schema(**facts: Any) -> Schema:
    """A string."""
    return {"type": "string", **facts}


def any_of(schemas: list[Schema]) -> Schema:
    """Any of those that differ, as those of two versions may."""
    different = [schema for at, schema in enumerate(schemas) if schema not in schemas[:at]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def version_parameter(versions: list[Served]) -> dict[str, Any]:
    """The version in a path: one of those that are served."""
    names = [served.model.version for served in versions]
    schema = text_schema(enum=names)
    return {"name": "version", "in": "path", "required": True, "schema": schema, "example": names[0]}


def _error(status: str) -> dict[str, Any]:
    headers = REQUEST_ID | (RETRY_AFTER if status == "503" else {})
    return {"description": WHY[status], "headers": headers, "content": json_content(ERROR_SCHEMA)}


ERRORS = {status: _error(status) for status in WHY}
