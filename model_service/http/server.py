"""uvicorn's server as this process needs it: without signal handlers, and without losing a request at its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_service.settings import Settings

# At the end a connection is waited for that has not asked anything yet, and for requests over all others until none has
# come for some time.
FIRST_REQUEST_S, ON_THE_WIRE_S = 1.0, 0.1
HANDSHAKE_S = 0.01  # for connections that are half made
SO_ATTACH_FILTER = 26
# Of a TCP packet: load the flags, keep SYN and ACK, and drop it where only SYN is left.
DROP_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
# A third of the idle timeout that load balancers come with.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#connection-idle-timeout
PING_S = 20.0


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: two of them share this process, and signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody connect any more, take the connections that were made, and close what is idle only then: uvicorn
        would cut off requests that are on their way."""
        for listener in sockets or ():
            _refuse_to_connect(listener)
        await asyncio.sleep(HANDSHAKE_S)
        made = [connection for listener in sockets or () for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        for connection in made:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await self._wait_for_requests_on_their_way()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(self.config, self.server_state, self.lifespan.state)
        return protocol

    async def _wait_for_requests_on_their_way(self) -> None:
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = loop.time() + FIRST_REQUEST_S
        is_quiet = False
        while loop.time() < deadline and not (is_quiet and not any(map(_is_unasked, state.connections))):
            before = state.total_requests
            await asyncio.sleep(ON_THE_WIRE_S)
            is_quiet = before == state.total_requests


def create_server(app: ASGIApp, settings: Settings, http: type[asyncio.Protocol], ws: Any) -> Server:
    """The server of `app`, whose connections are of the class `http`, and of `ws` once they are WebSockets."""
    config = uvicorn.Config(
        app,
        http=http,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("x-onnxship-release", settings.release_id)],  # here, so that no answer of uvicorn's own lacks it
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_s,
        ws=ws,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # tensors hardly shrink, and each stream would hold two compressors
    )
    return Server(config)


def _refuse_to_connect(listener: socket.socket) -> None:
    """Drop what would begin a connection; its caller tries again a second later, and is refused by then. Closing a
    listener would reset the connections that come about in the same moment.

    https://www.kernel.org/doc/html/latest/networking/filter.html; other systems than Linux have no such filter.
    """
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN))
    with contextlib.suppress(OSError):
        program = struct.pack("HP", len(DROP_SYN), ctypes.addressof(filters))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that callers have made and nobody has accepted."""
    with contextlib.suppress(OSError):  # there is none any more, or no file descriptor for it
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def _is_unasked(connection: Any) -> bool:
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None
