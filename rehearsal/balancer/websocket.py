"""WebSockets through the load balancer: an open socket stays on its target until one side ends it.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from rehearsal.balancer.visit import Visit

HANDSHAKE = frozenset(
    ("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol", "host")
)
Goodbye = tuple[int, bytes]


async def relay(
    session: aiohttp.ClientSession, visit: Visit, url: URL, headers: CIMultiDict[str], idle_s: float
) -> web.StreamResponse:
    """Open the socket to the target first, then to the client, and pass messages until one of them is closed."""
    sent = time.monotonic()
    try:
        inner = await _connect(session, visit.request, url, headers)
    except aiohttp.WSServerHandshakeError as refused:
        visit.target_status = visit.elb_status = refused.status
        return web.Response(status=refused.status)
    except (aiohttp.ClientError, OSError):
        visit.connect_failed, visit.elb_status = True, 502
        return web.Response(status=502, headers={"Server": "awselb/2.0"})
    visit.target_duration_s = time.monotonic() - sent
    visit.target_status = visit.elb_status = 101
    chosen = [inner.protocol] if inner.protocol else ()
    outer = web.WebSocketResponse(protocols=chosen, autoping=False, autoclose=False, max_msg_size=0, compress=False)
    try:
        await outer.prepare(visit.request)
        goodbye = await _both_ways(outer, inner, idle_s)
        if goodbye is None and visit.request.transport is not None:
            visit.request.transport.abort()
        elif goodbye is not None:
            await inner.close(code=goodbye[0], message=goodbye[1])
            await outer.close(code=goodbye[0], message=goodbye[1])
    finally:
        await inner.close()
    return outer


async def _connect(
    session: aiohttp.ClientSession, request: web.BaseRequest, url: URL, headers: CIMultiDict[str]
) -> aiohttp.ClientWebSocketResponse:
    """A socket to the target, with the client's headers and the subprotocols it offers."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    kept = CIMultiDict(item for item in headers.items() if item[0].lower() not in HANDSHAKE)
    kept["Host"] = request.headers.get("Host", "")
    return await session.ws_connect(
        url,
        headers=kept,
        protocols=[name.strip() for name in offered if name.strip()],
        autoping=False,
        autoclose=False,
        max_msg_size=0,
    )


async def _both_ways(
    outer: web.WebSocketResponse, inner: aiohttp.ClientWebSocketResponse, idle_s: float
) -> Goodbye | None:
    """Pass messages both ways until one side says goodbye; None when it just went, or both were idle for too long."""
    try:
        async with asyncio.timeout(idle_s) as limit:
            ways = [
                asyncio.ensure_future(_pass(source, sink, limit, idle_s))
                for source, sink in ((outer, inner), (inner, outer))
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
    except TimeoutError:
        return None
    return done.pop().result()


async def _pass(source: Any, sink: Any, limit: asyncio.Timeout, idle_s: float) -> Goodbye | None:
    while True:
        message = await source.receive()
        limit.reschedule(asyncio.get_running_loop().time() + idle_s)
        if message.type == WSMsgType.CLOSE:
            return (message.data or aiohttp.WSCloseCode.OK, (message.extra or "").encode())
        send = {
            WSMsgType.TEXT: sink.send_str,
            WSMsgType.BINARY: sink.send_bytes,
            WSMsgType.PING: sink.ping,
            WSMsgType.PONG: sink.pong,
        }.get(message.type)
        if send is None:
            return None
        try:
            await send(message.data)
        except ConnectionResetError:
            return None
