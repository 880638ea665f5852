"""Connections from the load balancer to the targets, and requests that a closed one does not cost.

A target may close an idle connection at the very moment a request goes out by it. Such a request was never read, so it
can go out again, whatever its method; one that the target has read is never repeated.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import select
import socket
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

# Targets must keep idle connections longer than the load balancer does. A real ALB keeps them for its idle timeout
# (60 s); ours lets go sooner than uvicorn's default of 5 s.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
KEEP_IDLE_S = 4.0
CONNECT_TIMEOUT_S = 10.0

_reused: contextvars.ContextVar[bool] = contextvars.ContextVar("reused", default=False)


class TargetConnection(ResponseHandler):
    """A connection that tells an end before the request was read (a reset) from one after it."""

    _unread = False

    def eof_received(self) -> None:
        """The target closed. When it had done so before our bytes came, its machine has answered them with a reset."""
        if self.transport is not None:
            own_end = self.transport.get_extra_info("socket")
            self._unread = own_end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass the end on."""
        if exc is None and self._unread:
            exc = ConnectionResetError(errno.ECONNRESET, "closed before it read the request")
        super().connection_lost(exc)


class Connector(aiohttp.TCPConnector):
    """A keep-alive pool that does not reuse a connection its target has closed in the meantime."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_IDLE_S)
        self._factory: Any = functools.partial(TargetConnection, loop=asyncio.get_running_loop())

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.transport is not None and not has_news(connection.transport):
                break
            connection.close()
        _reused.set(connection is not None)
        return connection


def has_news(transport: Any) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def open_session() -> aiohttp.ClientSession:
    """The session that all requests to targets go by: nothing is added, decoded, followed or repeated."""
    session = aiohttp.ClientSession(
        connector=Connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=2**18,
        max_line_size=2**16,
        max_field_size=2**16,
    )
    # aiohttp repeats a GET even when the target has read it, and may have died of it.
    session._retry_connection = False
    return session


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    headers: CIMultiDict[str],
    body: bytes | aiohttp.StreamReader | None,
    idle_s: float,
) -> aiohttp.ClientResponse:
    """The target's answer. `idle_s`: how long the target may say nothing."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=idle_s)
    while True:
        try:
            return await session.request(
                method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientOSError, ConnectionResetError):
            # Each round takes a connection out of the pool, and the last one is new.
            if not _reused.get() or isinstance(body, aiohttp.StreamReader):
                raise
