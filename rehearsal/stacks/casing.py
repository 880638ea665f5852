"""A resource's properties as an API request: names and types come from botocore's own input shape."""

from __future__ import annotations

import json
from typing import Any

from botocore.model import Shape

from rehearsal.stacks.errors import ResourceFailed


def to_request(shape: Shape, properties: dict[str, Any], where: str) -> dict[str, Any]:
    """`properties` as the structure `shape` wants them. A property the API does not know fails by name."""
    members = {name.lower(): name for name in shape.members}  # type: ignore[attr-defined]
    request: dict[str, Any] = {}
    for name, value in properties.items():
        member = members.get(name.lower())
        if member is None:
            raise ResourceFailed(f"property {where}.{name} is not rehearsed", "InvalidRequest")
        request[member] = _value(shape.members[member], value, f"{where}.{name}")  # type: ignore[attr-defined]
    return request


def _value(shape: Any, value: Any, where: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return to_request(shape, _expect(dict, value, where), where)
    if kind == "list":
        return [_value(shape.member, item, f"{where}[{n}]") for n, item in enumerate(_expect(list, value, where))]
    if kind == "map":
        return {str(key): _value(shape.value, item, f"{where}.{key}") for key, item in _map(value, where).items()}
    try:
        return _scalar(kind, value)
    except (ValueError, TypeError) as error:
        raise ResourceFailed(f"property {where}: {value!r} is no {kind}", "InvalidRequest") from error


def _scalar(kind: str, value: Any) -> Any:
    if kind in ("integer", "long"):
        return int(value)
    if kind in ("float", "double"):
        return float(value)
    if kind == "boolean":
        return as_bool(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value)  # a policy document: an object in the template, a text in the API
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_bool(value: Any) -> bool:
    """A boolean as templates write it: true or "true"."""
    if str(value).lower() not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return str(value).lower() == "true"


def _map(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, list):  # Tags: a list of Key and Value in templates, a map in some APIs
        return {item["Key"]: item["Value"] for item in value}
    return _expect(dict, value, where)


def _expect(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise ResourceFailed(f"property {where}: expected type: {kind.__name__}, found: {value!r}", "InvalidRequest")
    return value
