"""A small service with HTTP and WebSockets, as it should be written for ECS behind a load balancer.

A container is not told that its target drains: SIGTERM comes after that, and the load balancer has closed by then what
was still open (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html). So
a session has an age at which the service itself asks its client to come again, well within the deregistration delay.
Asked so, the client says `bye` after its last message; everything before that is answered; then the service closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal

from aiohttp import WSCloseCode, WSMsgType, web

RELEASE = os.environ["RELEASE"]
TARGET = f"{RELEASE}/{os.getpid()}"
SESSION_S = (1.0, 2.5)
BYE_S = 5.0


class Sessions:
    """The open sockets, and whether they are asked to leave."""

    def __init__(self) -> None:
        self.ending = asyncio.Event()
        self.open: set[asyncio.Task[None] | None] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Say who answers, echo every message, and end the session at its age or at SIGTERM."""
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self.open.add(asyncio.current_task())
        asking = asyncio.create_task(self._ask_to_leave(socket))
        try:
            await socket.send_json({"target": TARGET})
            async for message in socket:
                if message.type == WSMsgType.TEXT and message.data == "bye":
                    await socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"come again")
                elif message.type == WSMsgType.TEXT:
                    await socket.send_json({"target": TARGET, "echo": int(message.data)})
        finally:
            asking.cancel()
            self.open.discard(asyncio.current_task())
        return socket

    async def _ask_to_leave(self, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ending.wait(), random.uniform(*SESSION_S))
        await socket.send_json({"target": TARGET, "leave": True})
        await asyncio.sleep(BYE_S)
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"no bye came")


async def answer(request: web.Request) -> web.Response:
    """Who answers."""
    return web.json_response({"target": TARGET})


async def main() -> None:
    """Serve until SIGTERM; then ask every session to leave, and end once none is open."""
    sessions = Sessions()
    app = web.Application()
    app.router.add_get("/socket", sessions.serve)
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75)  # longer than the load balancer's 60 s
    await runner.setup()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sessions.ending.set)
    await web.TCPSite(runner, os.environ.get("BIND_HOST", "0.0.0.0"), int(os.environ["PORT"])).start()
    print(f"{TARGET} serves", flush=True)  # noqa: T201
    await sessions.ending.wait()
    while sessions.open:
        await asyncio.sleep(0.05)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
