"""What one connection may take: patience in the middle of a request, bytes for a head, and offers to speak something
else. uvicorn itself would wait for ever, keep a head of any size, and lose the body behind an offer.

uvicorn is pinned, because this rests on how it cuts its work:
https://github.com/encode/uvicorn/blob/main/uvicorn/protocols/http/httptools_impl.py
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from model_service.settings import Settings

HEAD_TOO_LARGE = 431
# For a caller that still sends: one that is hung up on would not see its answer.
LINGER_S, LINGER_BYTES = 2.0, 2**20


def patient_protocol(settings: Settings) -> type[PatientProtocol]:
    """The protocol class for uvicorn's configuration, which makes an object of it for each connection."""
    return type("BoundPatientProtocol", (PatientProtocol,), limits(settings))


def limits(settings: Settings) -> dict[str, float]:
    """The attributes that bind a class to `settings`."""
    return {"read_timeout_s": settings.read_timeout_s, "max_header_bytes": settings.max_header_bytes}


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, closed when a head takes longer than `read_timeout_s`, or a body is silent
    for so long.

    A head is the request line and the headers; what stands between and behind the chunks of a body counts as one too.
    """

    read_timeout_s: float
    max_header_bytes: int
    is_within_message = False
    is_in_head = False
    is_new_head = False  # began in what has just come, somewhere
    is_offer = False  # the head offers to speak another protocol, which will not be spoken
    is_refused = False
    head_bytes = 0  # of the head that is not yet there, as far as it is known
    chunk_bytes = 0
    stall: TimerHandle | None = None
    idle_since = 0.0  # by the loop's clock, where it is idle

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._close_when_idle(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            self._discard(len(data))
            return
        self.chunk_bytes = len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if not self.is_refused:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
        if self.is_in_head:
            self._count_head()
        if self.is_in_head and self.stall and not self.is_refused:
            return  # a head's time counts from its first byte, a body's from its last
        self._stop_waiting()
        if self.is_within_message and not self.is_refused and not self.transport.is_closing():
            self._wait()

    def on_message_begin(self) -> None:
        # As uvicorn does it, but for the scope: that costs, and not every request needs one.
        self.is_within_message = True
        self._begin_head()
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        # Only a head in several pieces, or in a large one, can be too large: others are not worth a sum.
        if (not self.is_new_head or self.chunk_bytes > self.max_header_bytes) and (
            self._parsed_bytes() > self.max_header_bytes
        ):
            self._refuse_head()
            raise ValueError("too large")  # so that the parser stops
        self.is_in_head = False
        self.is_offer = self.parser.should_upgrade() and not self._should_upgrade()
        if not self.is_offer:
            self.on_head()
        elif self.parser.get_method() == b"CONNECT":
            raise ValueError("this is no proxy")

    def on_head(self) -> None:
        """A request begins, whose body follows."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope has
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.is_in_head = False
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """httptools calls this where a body is chunked; behind the last chunk further headers may stand."""
        self._begin_head()

    def on_message_complete(self) -> None:
        self.is_within_message = self.is_in_head = False
        if not self.is_offer:
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Only for what can become a WebSocket; whatever else asks for it is an ordinary request."""
        return self._is_idle() and self.parser.get_method() == b"GET" and super()._should_upgrade()

    def on_response_complete(self) -> None:
        """As uvicorn does it, but for the timer: one for each answer would cost as much as a small part of it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.idle_since = self.loop.time()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for long enough, also one that never asked; else look again."""
        idle_s = 0.0 if self.is_within_message or not self._is_idle() else self.loop.time() - self.idle_since
        if idle_s >= self.timeout_keep_alive:
            self.transport.close()
        else:
            self._close_when_idle(self.timeout_keep_alive - idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _close_when_idle(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse. At the end of a head that offers another protocol the parser takes what follows for that protocol: an
        offer that is not taken is taken out of the head, which is then parsed again.

        https://www.rfc-editor.org/rfc/rfc9110#section-7.8
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                if not self.is_offer:
                    self._become_websocket(bytes(data))
                    return
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
                self.parser.feed_data(head)
            else:
                return

    def _become_websocket(self, early: bytes) -> None:
        """The connection is a WebSocket's from now on, with the bytes that have come behind its request."""
        self._unset_keepalive_if_required()
        self.handle_websocket_upgrade()
        if early and not self.transport.is_closing():
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        parts = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                parts += (name, b": ", value, b"\r\n")
        return b"".join((*parts, b"\r\n"))

    def _begin_head(self) -> None:
        self.is_in_head = self.is_new_head = True
        self._stop_waiting()

    def _count_head(self) -> None:
        """Where in the bytes that came a head began is not known, but what of it was parsed."""
        self.head_bytes = self._parsed_bytes() if self.is_new_head else self.head_bytes + self.chunk_bytes
        self.is_new_head = False
        if self.head_bytes > self.max_header_bytes and not self.is_refused:
            self._refuse_head()

    def _parsed_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self.is_refused = True
        self.logger.warning("a request was refused: its headers are larger than %d bytes", self.max_header_bytes)
        if self._is_idle():
            self.transport.write(self._head_too_large())
            self.transport.write_eof()
            self.loop.call_later(LINGER_S, self.transport.close)
        elif self.cycle.more_body:  # it has no end that could be answered
            self.transport.abort()
        else:  # the connection closes behind the answers that are due
            self.cycle.keep_alive = False

    def _discard(self, size_bytes: int) -> None:
        """Bytes that come behind a head that was refused."""
        self.head_bytes += size_bytes
        if self._is_idle() and self.head_bytes > self.max_header_bytes + LINGER_BYTES:
            self.transport.abort()

    def _is_idle(self) -> bool:
        """Whether no answer is due."""
        return self.cycle is None or self.cycle.response_complete

    def _head_too_large(self) -> bytes:
        body = orjson.dumps({"error": f"the request line and headers are larger than {self.max_header_bytes} bytes"})
        parts = [STATUS_LINE[HEAD_TOO_LARGE]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),)
        return b"".join((*parts, b"connection: close\r\n\r\n", body))

    def _wait(self) -> None:
        # While reading is paused, because what came before is being worked on, the silence is ours: then look again.
        then = self._wait if self.flow.read_paused else self.transport.abort
        self.stall = self.loop.call_later(self.read_timeout_s, then)

    def _stop_waiting(self) -> None:
        if self.stall is not None:
            self.stall.cancel()
            self.stall = None
