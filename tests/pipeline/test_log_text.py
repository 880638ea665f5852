"""What `onnxship logs` makes of the server's JSON lines."""

import json
import logging
import sys

import pytest

from model_service.access_log import JsonLines, fields
from pipeline.cli.log_text import readable


def written(message: str, error: Exception, request_id: str) -> str:
    """The server's own line for an exception."""
    try:
        raise error
    except type(error):
        info = sys.exc_info()
    record = logging.LogRecord("model_service.http.app", logging.ERROR, "app.py", 1, message, (), info)
    record.__dict__ |= fields(request_id=request_id)
    return JsonLines("r1").format(record)


def test_an_exception_is_told_first_and_shown_beneath() -> None:
    """Time, level, the text with type and message, the request; then the stack, indented, as Python prints it."""
    line = written("service.py postprocess failed: RuntimeError: no such class", RuntimeError("no such class"), "id-7")

    first, *stack = readable(line).splitlines()

    assert "error    service.py postprocess failed: RuntimeError: no such class (id-7)" == first.split(" ", 1)[1]
    assert json.loads(line)["time"][11:23] == first[:12]
    assert "          Traceback (most recent call last):" == stack[0]
    assert "          RuntimeError: no such class" == stack[-1]


def test_a_request_is_one_short_line() -> None:
    """Verb, path, status and time."""
    entry = {"time": "2026-11-21T05:48:45.045Z", "level": "info", "message": "request", "request_id": "a1"}
    entry |= {"method": "POST", "path": "/predict", "status": 200, "latency_ms": 1.6}

    assert "05:48:45.045 info     POST /predict 200 in 1.6 ms (a1)" == readable(json.dumps(entry))


@pytest.mark.parametrize("line", ["Segmentation fault", '{"level": "info"}', "[1]", ""])
def test_what_the_server_did_not_write_stays(line: str) -> None:
    """Words of the runtime, or of a server of one's own."""
    assert line == readable(line)
