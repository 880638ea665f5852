"""A line of the server's log for people: `07:34:00.471 error    what happened (request id)`, its stack beneath."""

from __future__ import annotations

import json
from typing import Any

INDENT = "          "  # beneath the text that follows a task's id


def readable(line: str) -> str:
    """The line in words; one that the server did not write stays as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or not {"time", "level", "message"} <= set(entry):
        return line
    request_id = f" ({entry['request_id']})" if entry.get("request_id") else ""
    first = f"{str(entry['time'])[11:23]} {entry['level']:8} {_what(entry)}{request_id}"
    return "\n".join([first, *(INDENT + text for text in str(entry.get("stack") or "").splitlines())])


def _what(entry: dict[str, Any]) -> str:
    if entry["message"] != "request":
        return str(entry["message"])
    answer = entry.get("status") or "no answer"
    return f"{entry.get('method')} {entry.get('path')} {answer} in {entry.get('latency_ms')} ms"
