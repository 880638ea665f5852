"""The log: one JSON line per request, and every other message as a JSON line too, on stdout. Never payloads."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_service.serving import Serving

REQUEST_ID_KEY = "model_service.request_id"
# The load balancer's trace id stands in when the caller names no id of its own.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
REQUEST_ID_HEADERS = (b"x-request-id", b"x-amzn-trace-id")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,256}")
HEALTH_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})

logger = logging.getLogger(__name__)


class AccessLog:
    """ASGI middleware around the whole app: names the request, logs its end, and answers when the app broke."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self.app = app
        self.serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        scope[REQUEST_ID_KEY] = request_id = _request_id(scope)
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(message, request_id)
            await send(message)

        try:
            await self.app(scope, receive, send_noting_status)
        except Exception:
            # Starlette has answered with 500 and raises again for the server to log: here it has a request id.
            logger.exception("%s %s failed", scope["method"], scope["path"], extra=fields(request_id=request_id))
        finally:
            self._write(scope, request_id, status, time.perf_counter() - started)

    def _add_headers(self, message: MutableMapping[str, Any], request_id: str) -> None:
        headers = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
        if self.serving.is_draining:
            # So that callers with a connection kept alive open their next one elsewhere.
            headers.append((b"connection", b"close"))
        message["headers"] = headers

    def _write(self, scope: Scope, request_id: str, status: int, duration_s: float) -> None:
        is_quiet = status == 200 and scope["path"] in HEALTH_PATHS
        if is_quiet and self.serving.settings.log_level != "debug":
            return
        served = self.serving.served
        line = {
            "time": _now(),
            "level": "error" if status >= 500 or status == 0 else "info",
            "message": "request",
            "request_id": request_id,
            "release": self.serving.settings.release_id,
            "model": served.model.name if served else None,
            "version": served.model.version if served else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": status or None,  # None: the caller went before there was an answer
            "latency_ms": round(duration_s * 1000, 3),
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()


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


def _request_id(scope: Scope) -> str:
    headers = dict(scope["headers"])
    for name in REQUEST_ID_HEADERS:
        value = headers.get(name, b"")
        if REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return os.urandom(8).hex()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
