"""The real ports of the listeners."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from aiohttp import web

from rehearsal.balancer.estate import Listener, refuse
from rehearsal.context import LOOPBACK

# Client connections idle for longer are closed (idle_timeout.timeout_seconds, default 60):
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
KEEP_CLIENT_IDLE_S = 60.0
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
LONGEST_HEADER_BYTES = 16384
STOP_WAIT_S = 0.2


class Ports:
    """One server per listener, all answered by the same proxy."""

    def __init__(
        self,
        handler: Callable[[Listener], Callable[[web.BaseRequest], object]],
        reserved: dict[int, socket.socket] | None = None,
    ) -> None:
        self._handler = handler
        self._reserved = {} if reserved is None else reserved
        self._open: dict[str, tuple[asyncio.Server, web.Server]] = {}

    async def open(self, listener: Listener) -> None:
        """Listen on the listener's port."""
        self._open[listener.arn] = await self._listen(listener, listener.port)

    async def move(self, listener: Listener, port: int) -> None:
        """Listen on another port; the old one closes once the new one is open."""
        moved = await self._listen(listener, port)
        await self.close(listener)
        listener.description["Port"] = port
        self._open[listener.arn] = moved

    async def _listen(self, listener: Listener, port: int) -> tuple[asyncio.Server, web.Server]:
        answers = web.Server(
            self._handler(listener),  # type: ignore[arg-type]
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=KEEP_CLIENT_IDLE_S,
            max_line_size=LONGEST_HEADER_BYTES,
            max_field_size=LONGEST_HEADER_BYTES,
        )
        try:
            server = await self._serve(answers, port)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise refuse(
                "InvalidConfigurationRequest",
                f"Port {port} of {LOOPBACK} {why}: a rehearsed listener needs a free port of this machine",
            ) from error
        return server, answers

    async def _serve(self, answers: web.Server, port: int) -> asyncio.Server:
        """A server on a port, on the socket that was kept for it if there is one."""
        held, loop = self._reserved.pop(port, None), asyncio.get_running_loop()
        if held:
            return await loop.create_server(answers, sock=held, backlog=512)
        return await loop.create_server(answers, LOOPBACK, port, backlog=512)

    async def close(self, listener: Listener) -> None:
        """Stop listening, and end what is still connected."""
        server, answers = self._open.pop(listener.arn)
        server.close()
        await answers.shutdown(STOP_WAIT_S)
