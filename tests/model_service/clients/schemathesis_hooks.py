"""What schemathesis is told of the server's JSON: 1.0 is a whole number to JSON Schema, and none to the server."""

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """The generated body, its whole numbers written without a point."""
    return _written_whole(body)


def _written_whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_written_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _written_whole(item) for name, item in value.items()}
    return value
