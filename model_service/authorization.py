"""Lets only those requests through that bring a good API key; health probes bring none."""

from __future__ import annotations

import orjson
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from model_service.access_log import HEALTH_PATHS
from model_service.api_keys import ApiKeys, Scope

OPEN_PATHS = HEALTH_PATHS | {"/metrics"}  # the second only on the admin port
# https://www.rfc-editor.org/rfc/rfc6750#section-3
CHALLENGE = (b"www-authenticate", b"Bearer")
BODY = orjson.dumps({"error": "a good API key is needed, as `Authorization: Bearer KEY` or `X-Api-Key: KEY`"})


class RequireKey:
    """ASGI middleware: 401 for who has no key for `scope`; a WebSocket is refused before its upgrade."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, scope: Scope) -> None:
        self.app = app
        self.keys = keys
        self.scope = scope

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "lifespan"
            or scope["path"] in OPEN_PATHS
            or self.keys.holder(dict(scope["headers"]), self.scope)
        ):
            await self.app(scope, receive, send)
        else:
            kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY)), CHALLENGE]
            await send({"type": f"{kind}.start", "status": 401, "headers": headers})
            await send({"type": f"{kind}.body", "body": BODY})
