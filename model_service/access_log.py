"""The log: one JSON line per request, and every other message as a JSON line too, on stdout. Never payloads."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from random import getrandbits
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.served import Served
from model_service.serving import Serving
from model_service.streaming.session import Session

REQUEST_ID_KEY = "model_service.request_id"
SERVED_KEY = "model_service.served"
SESSION_KEY = "model_service.session"
SWITCHING_PROTOCOLS = 101
# The load balancer's trace id stands in when the caller names no id of its own.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
REQUEST_ID_HEADERS = (b"x-request-id", b"x-amzn-trace-id")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,256}")
# https://www.w3.org/TR/trace-context/#traceparent-header
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
HEALTH_CALLS = ("ServerLive", "ServerReady")
HEALTH_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"}).union(
    f"/inference.GRPCInferenceService/{call}" for call in HEALTH_CALLS
)
# No standard has a status for it; nobody receives this one, but the log has it, in nginx's number.
CLIENT_CLOSED_REQUEST = 499
FLUSH_S = 0.05

logger = logging.getLogger(__name__)


class AccessLog:
    """Writes the line of each request. Lines leave the process together, a few times a second: a write for each would
    cost as much as a small inference."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._is_on = serving.settings.access_log != "off"
        self.is_all = serving.settings.access_log == "all"  # good answers are logged too
        self._is_debug = serving.settings.log_level == "debug"
        self._lines: list[bytes] = []

    def write(
        self,
        *,
        request_id: str,
        method: str,
        path: str,
        status: int,
        started: float,
        headers: Mapping[bytes, bytes],
        served: Served | None = None,
        session: Session | None = None,
    ) -> None:
        """Log the end of one request, or of the `session` that it opened; a `status` of 0 is a caller that went before
        there was an answer."""
        is_error = (status >= 500 or status == 0) and path not in HEALTH_PATHS  # a probe's 503 is an answer
        if not self._is_on or not (self.is_all or is_error or status == CLIENT_CLOSED_REQUEST):
            return
        if status == 200 and path in HEALTH_PATHS and not self._is_debug:
            return
        served = served or self._serving.models.default
        line: dict[str, Any] = {
            "time": _now(),
            "level": "error" if is_error else "info",
            "message": "request",
            "request_id": request_id,
            "release": self._serving.settings.release_id,
            "model": served.model.name if served else None,
            "version": served.model.version if served else None,
            "method": method,
            "path": path,
            "status": status or None,
        }
        elapsed_s = time.perf_counter() - started
        if session:
            line |= {"message": "stream", "duration_s": round(elapsed_s, 3), "messages": session.messages}
            line |= {"errors": session.errors, "close_code": session.close_code}
        else:
            line["latency_ms"] = round(elapsed_s * 1000, 3)
        traceparent = headers.get(b"traceparent")
        if traceparent and (trace := TRACEPARENT.fullmatch(traceparent)):
            line["trace_id"] = trace[1].decode()
            line["parent_id"] = trace[2].decode()
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []  # first: a write that fails loses these lines, and not all that come later
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()


class LogRequests:
    """ASGI middleware around a whole app: names the request, logs its end, and answers when the app broke."""

    def __init__(self, app: ASGIApp, serving: Serving, log: AccessLog) -> None:
        self.app = app
        self.serving = serving
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        scope[REQUEST_ID_KEY] = request_id = choose_request_id(headers)
        method = scope.get("method", "GET")  # a WebSocket's scope does not say what it always is
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"].endswith("http.response.start"):  # for a WebSocket that is refused, too
                status = message["status"]
                self._add_headers(message, request_id)
            elif message["type"] == "websocket.accept":
                status = SWITCHING_PROTOCOLS
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_noting_status)
        except Exception:
            # Starlette has answered with 500 and raises again for the server to log: here it has a request id.
            logger.exception("%s %s failed", method, scope["path"], extra=fields(request_id=request_id))
        finally:
            self.log.write(
                request_id=request_id,
                method=method,
                path=scope["path"],
                status=status,
                started=started,
                headers=headers,
                served=scope.get(SERVED_KEY),
                session=scope.get(SESSION_KEY),
            )

    def _add_headers(self, message: MutableMapping[str, Any], request_id: str) -> None:
        headers = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
        if message["type"].startswith("websocket."):  # uvicorn adds it to every other answer
            headers.append((b"x-onnxship-release", self.serving.settings.release_id.encode()))
        if self.serving.is_draining:
            # So that callers with a connection kept alive open their next one elsewhere.
            headers.append((b"connection", b"close"))
        message["headers"] = headers


class JsonLines(logging.Formatter):
    """A log record as one JSON line."""

    def __init__(self, release_id: str) -> None:
        super().__init__()
        self.release_id = release_id

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _now(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "release": self.release_id,
            "logger": record.name,
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def fields(**members: Any) -> dict[str, Any]:
    """`extra` for a log call: members that its JSON line gets."""
    return {"fields": members}


def start_logging(release_id: str, level: str) -> None:
    """Send every log message of the process to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(release_id))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level != "debug":
        for chatty in ("uvicorn", "botocore", "urllib3", "asyncio"):
            logging.getLogger(chatty).setLevel(logging.WARNING)


def choose_request_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id of the request, else the load balancer's, else one of our own."""
    for name in REQUEST_ID_HEADERS:
        value = headers.get(name)
        if value and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{getrandbits(64):016x}"


def _now() -> str:
    second, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(second)}.{milliseconds:03}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
