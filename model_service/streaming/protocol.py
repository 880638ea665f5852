"""A stream's connection: uvicorn's WebSocket protocol, patient with callers that are slow, not with those that hang.

uvicorn is pinned, because this rests on how it cuts its work:
https://github.com/encode/uvicorn/blob/main/uvicorn/protocols/websockets/websockets_sansio_impl.py
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LINGER_S = 2.0  # for a caller in the middle of a frame that is too large: it has to see why the stream ends

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def stream_protocol(read_timeout_s: float) -> type[StreamProtocol]:
    """The protocol class for uvicorn's configuration, which makes an object of it for each connection."""
    return type("BoundStreamProtocol", (StreamProtocol,), {"read_timeout_s": read_timeout_s})


class StreamProtocol(WebSocketsSansIOProtocol):
    """One connection, after its request to upgrade."""

    read_timeout_s: float
    heard_at = 0.0
    early = b""  # what has come before the stream was accepted
    write_stall: TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        if self.handshake_initiated and not self.handshake_complete:
            self.early += data
            self.transport.pause_reading()
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # What websockets cannot read as a request (say, too many headers) uvicorn would leave without an answer.
            self.transport.write(BAD_REQUEST)
            self.transport.close()

    def handle_parser_exception(self) -> None:
        """uvicorn hangs up at once; a caller that still sends would find a broken connection, and no code."""
        if self.close_sent:
            return
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def keepalive_timeout(self) -> None:
        """A pong may stand behind messages that are not read yet, or behind the frame that is just coming in."""
        assert self.ping_timeout is not None
        if self.read_paused or self.loop.time() - self.heard_at < self.ping_timeout:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def shutdown(self) -> None:
        """uvicorn would close now; where the stream has been closed, the caller's reply is waited for, for its answers
        may still be on their way."""
        if self.close_timer is None:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        if self.handshake_complete and not self.close_sent and self.conn.close_rcvd is None:
            # uvicorn says 1005, as of a caller that closed without a code: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        """As uvicorn's, and OSError after an end that the caller has made, or an error of its, as ASGI wants it."""
        await self.writable.wait()
        if self.close_sent and self.initial_response is None:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.accept" and self.early:
            early, self.early = self.early, b""
            self.transport.resume_reading()
            self.data_received(early)
        # uvicorn does not count a refusal as the end of the handshake, and would complain that it never came.
        self.handshake_complete |= self.close_sent

    def _watch_writing(self, unsent_bytes: int) -> None:
        self.write_stall = self.loop.call_later(self.read_timeout_s, self._abort_if_stalled, unsent_bytes)

    def _abort_if_stalled(self, unsent_bytes: int) -> None:
        now_bytes = self.transport.get_write_buffer_size()
        if now_bytes >= unsent_bytes:
            self.transport.abort()
        else:
            self._watch_writing(now_bytes)

    def _stop_watching(self) -> None:
        if self.write_stall is not None:
            self.write_stall.cancel()
            self.write_stall = None
