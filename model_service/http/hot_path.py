"""The hot path: inference requests go from the HTTP parser to the scheduler, past ASGI, routing and tasks.

A subclass of uvicorn's own protocol. It takes a request over only when nothing about it is special: a POST to a path of
an endpoint, over HTTP/1.1, with a Content-Length within the limit, a good API key where one is needed, and no Expect.
Every other, and all that is no request, stays uvicorn's; `HOT_PATH=off` leaves it everything. uvicorn is pinned,
because this rests on how it cuts its work:
https://github.com/encode/uvicorn/blob/main/uvicorn/protocols/http/httptools_impl.py
"""

from __future__ import annotations

import time
from asyncio import Event
from collections.abc import Iterable
from typing import Any

import msgspec
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from model_service.access_log import CLIENT_CLOSED_REQUEST, AccessLog, choose_request_id
from model_service.endpoints import Endpoint, extra_headers
from model_service.errors import RequestRefused, as_refused
from model_service.http.patience import PatientProtocol, limits
from model_service.scheduling.job import JSON, Answer, Job
from model_service.serving import Serving

EARLY_FROM_BYTES = 64 * 1024  # a smaller body costs nothing before it is read
NOBODY_WAITS = Event()  # uvicorn sets it to wake the application of a cycle; a hot one has none


def hot_protocol(serving: Serving, log: AccessLog) -> type[PatientProtocol]:
    """The protocol class for uvicorn's configuration, which makes an object of it for each connection."""
    bound = {"serving": serving, "log": log, "heads": {}, **limits(serving.settings)}
    return type("BoundHotProtocol", (HotProtocol,), bound)


class HotProtocol(PatientProtocol):
    """One connection."""

    serving: Serving
    log: AccessLog
    heads: dict[tuple[int, bytes], bytes]
    turn: HotCycle | None = None  # the hot request that is being answered

    def on_head(self) -> None:
        headers = dict(self.headers)
        endpoint = self._hot_endpoint(headers)
        if endpoint is None:
            super().on_head()
            return
        length, refused = int(headers[b"content-length"]), None
        if length >= EARLY_FROM_BYTES:  # before a byte of the body is kept
            refused = endpoint.served.scheduler.refusal(length)
        keep_alive = self.parser.should_keep_alive()
        cycle = HotCycle(self, endpoint, headers, self.url, choose_request_id(headers), keep_alive, refused)
        previous, self.cycle = self.cycle, cycle  # type: ignore[assignment]
        if previous is None or previous.response_complete:
            self.turn = cycle
            cycle.start()
        else:  # as uvicorn does: pipelined requests wait for their turn
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, HotCycle) and self.cycle.more_body:
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        # An offer of another protocol has no cycle of its own, and that of the request before it is complete.
        if isinstance(self.cycle, HotCycle) and self.cycle.more_body:
            self.is_within_message = self.is_in_head = False
            self.cycle.on_message_complete()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in (self.turn, self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(cycle, HotCycle):
                cycle.on_connection_lost()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if isinstance(cycle, HotCycle):
            self.turn = cycle
            # Not at once, within the end of the request before: many that are refused would nest as deep.
            self.loop.call_soon(cycle.start)
        else:
            super()._start_asgi_task(cycle, app)

    def head(self, status: int, content_type: bytes) -> bytes:
        """The beginning of an answer, the same for all of its kind."""
        head = self.heads.get((status, content_type))
        if head is None:
            lines = [STATUS_LINE[status]]
            for name, value in (*self.server_state.default_headers, (b"content-type", content_type)):
                lines += (name, b": ", value, b"\r\n")
            head = self.heads[(status, content_type)] = b"".join(lines)
        return head

    def _hot_endpoint(self, headers: dict[bytes, bytes]) -> Endpoint | None:
        serving = self.serving
        endpoint = serving.models.endpoints.get(self.url)
        if endpoint is None or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > serving.settings.max_body_bytes:
            return None
        if b"expect" in headers or b"transfer-encoding" in headers:
            return None
        keys = serving.api_keys
        return None if keys and not keys.holder(headers, "infer") else endpoint


class HotCycle(msgspec.Struct, eq=False):
    """One request and its answer; what uvicorn's protocol knows of a cycle, and no application."""

    protocol: HotProtocol
    endpoint: Endpoint
    headers: dict[bytes, bytes]
    path: bytes
    request_id: str
    keep_alive: bool
    refused: RequestRefused | None
    chunks: list[bytes] = []
    job: Job | None = None
    is_first: bool = False  # of the connection's requests, so that it may answer
    is_answered: bool = False  # though the answer may not have left yet
    disconnected: bool = False
    response_complete: bool = False
    more_body: bool = True
    message_event: Event = NOBODY_WAITS
    started: float = msgspec.field(default_factory=time.perf_counter)

    def start(self) -> None:
        """It is this request's turn on its connection."""
        self.is_first = True
        if not self.more_body and not self.disconnected:
            self._submit()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body; of a refused request there is nothing to keep."""
        if self.refused is None:
            self.chunks.append(body)

    def on_message_complete(self) -> None:
        """The body is there."""
        self.more_body = False
        if self.is_first:
            self._submit()

    def on_connection_lost(self) -> None:
        """The caller has gone: so goes its work."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        if self.job is not None:
            self.job.give_up()
        if not self.is_answered:
            self._log(CLIENT_CLOSED_REQUEST)

    def _submit(self) -> None:
        if self.refused is not None:
            self._answer_error(self.refused)
            return
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.chunks = []
        try:
            self.job = self.endpoint.submit(self.headers, body, self._on_done)
        except RequestRefused as refused:
            self._answer_error(refused)

    def _on_done(self, job: Job) -> None:
        if self.disconnected:
            return
        outcome = job.outcome
        if isinstance(outcome, Answer):
            self._send(200, outcome.content_type, extra_headers(outcome), outcome.body)
        else:
            self._answer_error(outcome)

    def _answer_error(self, error: Exception) -> None:
        told = as_refused(error, self.request_id)
        headers = [(b"retry-after", b"%d" % told.retry_after_s)] if told.retry_after_s else []
        self._send(told.status, JSON, headers, orjson.dumps({"error": told.message}))

    def _send(self, status: int, content_type: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        protocol = self.protocol
        if protocol.serving.is_draining:
            self.keep_alive = False
        parts = [protocol.head(status, content_type)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (
            b"content-length: %d\r\nx-request-id: %b\r\n" % (len(body), self.request_id.encode()),
            b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
            body,
        )
        protocol.transport.write(b"".join(parts))
        self.is_answered = True
        self.job = None  # an idle connection keeps this cycle, and would keep the body, the answer and the model
        self._log(status)
        if protocol.flow.write_paused:  # the caller reads slower than it asks: its next request waits
            task = protocol.loop.create_task(self._complete_when_sent())
            protocol.tasks.add(task)
            task.add_done_callback(protocol.tasks.discard)
        else:
            self._complete()

    async def _complete_when_sent(self) -> None:
        await self.protocol.flow.drain()
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self.protocol.transport.close()
        self.protocol.on_response_complete()

    def _log(self, status: int) -> None:
        if status == 200 and not self.protocol.log.is_all:
            return
        self.protocol.log.write(
            request_id=self.request_id,
            method="POST",
            path=self.path.decode("ascii"),
            status=status,
            started=self.started,
            headers=self.headers,
            served=self.endpoint.served,
        )
