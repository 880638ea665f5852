"""The real ports of the listeners."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from aiohttp import web

from rehearsal.balancer.estate import Listener
from rehearsal.context import LOOPBACK
from rehearsal.loopback import bind, in_use
from rehearsal.refusals import Refused

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
        reserved: dict[int, socket.socket],
    ) -> None:
        """`reserved`: sockets that hold ports for listeners; the listener that opens such a port uses it up."""
        self._handler = handler
        self._reserved = reserved
        self._held: set[int] = set()
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
            server = await asyncio.get_running_loop().create_server(answers, sock=self._bound(port), backlog=512)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = in_use(port, LOOPBACK) if taken else f"Port {port} of {LOOPBACK} cannot be opened ({error.strerror})"
            raise Refused(
                "InvalidConfigurationRequest",
                f"{why}. A rehearsed listener needs a free port of this machine. Fix: end what has it, or choose"
                " another port",
            ) from error
        return server, answers

    def _bound(self, port: int) -> socket.socket:
        held = self._reserved.pop(port, None)
        if held is not None:
            self._held.add(port)
        listening = held or bind(port)
        # Its connections inherit this, and so do not keep the port from being reserved again when they linger.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return listening

    async def close(self, listener: Listener) -> None:
        """Stop listening, and end what is still connected; a port that was reserved is so again."""
        server, answers = self._open.pop(listener.arn)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await answers.shutdown(STOP_WAIT_S)
        if port in self._held:
            self._held.discard(port)
            self._reserved[port] = bind(port)
