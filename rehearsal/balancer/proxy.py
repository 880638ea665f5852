"""One request through the load balancer: rule, target group, target, answer, and what went wrong on the way."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from rehearsal.balancer import websocket
from rehearsal.balancer.accesses import Access, AccessLog
from rehearsal.balancer.estate import Listener, full_name
from rehearsal.balancer.routing import GROUP_COOKIE, Fixed, Forward, Redirect, cookie, group_token
from rehearsal.balancer.targets import Pool, Target
from rehearsal.balancer.upstream import send
from rehearsal.balancer.visit import CLIENT_LEFT, Visit
from rehearsal.context import LOOPBACK, AddressBook

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
REASONS = {400: "Bad Request", 502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
BUFFERED_BYTES = 2**18
TARGET_COOKIE = "AWSALB"
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)


class Proxy:
    """Answers the requests of every listener."""

    def __init__(self, addresses: AddressBook, session: aiohttp.ClientSession, log: AccessLog) -> None:
        self._addresses = addresses
        self._session = session
        self._log = log

    def handler(self, listener: Listener) -> Callable[[web.BaseRequest], object]:
        """The function that answers the requests of one listener."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            visit = Visit(listener, request, time.monotonic())
            try:
                return await self._answer(visit)
            finally:
                self._log.add(access(visit))

        return handle

    async def _answer(self, visit: Visit) -> web.StreamResponse:
        path = visit.request.raw_path.partition("?")[0]
        action = visit.listener.routes.action_for(visit.request, path)
        if isinstance(action, Forward):
            return await self._forward(visit, action)
        answer = fixed(action) if isinstance(action, Fixed) else redirect(action, visit)
        visit.elb_status = answer.status
        return answer

    async def _forward(self, visit: Visit, action: Forward) -> web.StreamResponse:
        chosen = action.choose(visit.request)
        target = pick(chosen[1], visit.request) if chosen else None
        if chosen is None or target is None:
            return refusal(visit, 503)
        visit.target_group, visit.target = chosen[0], target
        port = self._addresses.real_port(target.ip, target.port)
        if port is None:
            visit.connect_failed = True
            return refusal(visit, 502)
        request = target.begin()
        try:
            return await self._pass_on(visit, port, stickiness(action, chosen, target))
        except asyncio.CancelledError:
            visit.elb_status = 502 if target.cut_off else CLIENT_LEFT
            raise
        finally:
            target.finish(request)

    async def _pass_on(self, visit: Visit, port: int, cookies: list[str]) -> web.StreamResponse:
        url = URL(f"http://{LOOPBACK}:{port}{visit.request.raw_path}", encoded=True)
        headers = forwarded_headers(visit)
        idle_s = float(visit.listener.load_balancer.attributes["idle_timeout.timeout_seconds"])
        if visit.request.headers.get("Upgrade", "").lower() == "websocket":
            return await websocket.relay(self._session, visit, url, headers, idle_s)
        sent = time.monotonic()
        try:
            body = await body_of(visit.request)
            answer = await send(self._session, visit.request.method, url, headers, body, idle_s)
        except web.RequestPayloadError:
            return refusal(visit, 400)
        except TimeoutError:
            return refusal(visit, 504)
        except aiohttp.ClientConnectorError:
            visit.connect_failed = True
            return refusal(visit, 502)
        except (aiohttp.ClientError, OSError):
            # The target closed the connection before it answered, or its answer is no HTTP.
            return refusal(visit, 502)
        visit.target_duration_s = time.monotonic() - sent
        visit.target_status = answer.status
        try:
            return await deliver(visit, answer, cookies)
        finally:
            answer.release()


async def deliver(visit: Visit, answer: aiohttp.ClientResponse, cookies: list[str]) -> web.StreamResponse:
    """Stream the target's answer to the client; a target that dies half-way takes the client's connection with it."""
    headers = CIMultiDict(item for item in answer.headers.items() if item[0].lower() not in HOP_BY_HOP)
    headers.extend(("Set-Cookie", value) for value in cookies)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if visit.request.version < (1, 1):
        response.force_close()
    try:
        await response.prepare(visit.request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except aiohttp.ClientConnectionResetError:
        visit.elb_status = CLIENT_LEFT
    except (aiohttp.ClientError, TimeoutError, OSError):
        visit.elb_status = 502
        if visit.request.transport is not None:
            visit.request.transport.abort()
    else:
        visit.elb_status = answer.status
    return response


async def body_of(request: web.BaseRequest) -> bytes | aiohttp.StreamReader | None:
    """A small body whole, so that it can be sent again; a large one as a stream."""
    if not request.body_exists:
        return None
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if request.content_length is not None and request.content_length <= BUFFERED_BYTES:
        return await request.read()
    return request.content


def forwarded_headers(visit: Visit) -> CIMultiDict[str]:
    """The client's headers with the load balancer's own.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
    """
    asked = visit.request.headers
    headers = CIMultiDict(item for item in asked.items() if item[0].lower() not in HOP_BY_HOP)
    mode = visit.listener.load_balancer.attributes["routing.http.xff_header_processing.mode"]
    if mode == "append":
        before = asked.get("X-Forwarded-For")
        client = visit.request.remote or ""
        headers["X-Forwarded-For"] = f"{before}, {client}" if before else client
    elif mode == "remove":
        headers.popall("X-Forwarded-For", None)
    headers["X-Forwarded-Proto"] = "http"
    headers["X-Forwarded-Port"] = str(visit.listener.port)
    identity = f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    trace = asked.get("X-Amzn-Trace-Id")
    headers["X-Amzn-Trace-Id"] = f"Self={identity};{trace}" if trace else f"Root={identity}"
    return headers


def pick(pool: Pool, request: web.BaseRequest) -> Target | None:
    """The request's target: the one its cookie names, else the next by the algorithm."""
    if pool.attributes["stickiness.enabled"] == "true" and (stuck := pool.sticky(request.cookies.get(TARGET_COOKIE))):
        return stuck
    return pool.choose()


def stickiness(action: Forward, chosen: tuple[str, Pool], target: Target) -> list[str]:
    """The Set-Cookie values that bind the client to its group and its target, where asked for."""
    arn, pool = chosen
    cookies = []
    if action.sticky_s is not None:
        cookies.append(cookie(GROUP_COOKIE, group_token(arn), action.sticky_s))
    if pool.attributes["stickiness.enabled"] == "true":
        seconds = int(pool.attributes["stickiness.lb_cookie.duration_seconds"])
        cookies.append(cookie(TARGET_COOKIE, target.name, seconds))
    return cookies


def refusal(visit: Visit, status: int) -> web.Response:
    """The load balancer's own error page."""
    visit.elb_status = status
    title = f"{status} {REASONS[status]}"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    headers = {"Server": "awselb/2.0"}
    return web.Response(
        status=status,
        reason=REASONS[status],
        text=f"{page}</body>\r\n</html>\r\n",
        content_type="text/html",
        headers=headers,
    )


def fixed(action: Fixed) -> web.Response:
    """The answer of a fixed-response action."""
    return web.Response(
        status=action.status, text=action.body, content_type=action.content_type, headers={"Server": "awselb/2.0"}
    )


def redirect(action: Redirect, visit: Visit) -> web.Response:
    """The answer of a redirect action.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html
    """
    parts = urlsplit(visit.request.raw_path)
    known = {
        "#{protocol}": "http",
        "#{host}": visit.request.headers.get("Host", LOOPBACK).partition(":")[0],
        "#{port}": str(visit.listener.port),
        "#{path}": parts.path.lstrip("/"),
        "#{query}": parts.query,
    }

    def filled(text: str) -> str:
        for name, value in known.items():
            text = text.replace(name, value)
        return text

    query = filled(action.query)
    place = f"{filled(action.protocol).lower()}://{filled(action.host)}:{filled(action.port)}{filled(action.path)}"
    location = f"{place}?{query}" if query else place
    return web.Response(status=action.status, headers={"Location": location, "Server": "awselb/2.0"})


def access(visit: Visit) -> Access:
    """The visit as the access log keeps it."""
    target, request = visit.target, visit.request
    return Access(
        time=time.time(),
        load_balancer=visit.listener.load_balancer.full_name,
        listener_port=visit.listener.port,
        client=request.remote or "",
        method=request.method,
        path=request.raw_path,
        user_agent=request.headers.get("User-Agent", ""),
        elb_status=visit.elb_status,
        target_status=visit.target_status,
        target_group=full_name(visit.target_group) if visit.target_group else None,
        target_ip=target.ip if target else None,
        target_port=target.port if target else None,
        duration_s=time.monotonic() - visit.started,
        target_duration_s=visit.target_duration_s,
        connect_failed=visit.connect_failed,
    )
