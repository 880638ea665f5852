"""Lets only those requests through that bring a good API key; health probes bring none."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping

import orjson
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from model_service.access_log import HEALTH_PATHS
from model_service.api_keys import ApiKeys, Scope
from model_service.errors import RequestRefused
from model_service.http.docs_page import PAGE_PATHS

OPEN_PATHS = HEALTH_PATHS | {"/metrics"}  # the second only on the admin port
WHERE = "as `Authorization: Bearer KEY` or `X-Api-Key: KEY`"
# https://www.rfc-editor.org/rfc/rfc6750#section-3
CHALLENGE = (b"www-authenticate", b"Bearer")
# A browser can bring no other; not for what changes or costs anything, because it brings it on any page's behalf.
PAGE_CHALLENGE = (b"www-authenticate", b'Basic realm="any name, with an API key as password"')


class RequireKey:
    """ASGI middleware: 401 for who has no key, 403 for who has none for `scope`; a WebSocket is refused before its
    upgrade."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, scope: Scope) -> None:
        self.app = app
        self.keys = keys
        self.scope = scope

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        headers, is_page = dict(scope["headers"]), scope["path"] in PAGE_PATHS
        try:
            self.keys.require(_with_password(headers) if is_page else headers, self.scope, where=WHERE)
        except RequestRefused as refused:
            await _refuse(scope, send, refused, PAGE_CHALLENGE if is_page else CHALLENGE)
        else:
            await self.app(scope, receive, send)


def _with_password(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The headers with the password of HTTP Basic, if there is one, as the key."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return headers
    try:
        _, _, password = b64decode(credentials).partition(b":")
    except binascii.Error:
        return headers
    return {b"x-api-key": password, **headers}


async def _refuse(scope: AsgiScope, send: Send, refused: RequestRefused, challenge: tuple[bytes, bytes]) -> None:
    body = orjson.dumps({"error": refused.message})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.status == 401:
        headers.append(challenge)
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": refused.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
