"""/v2/models/{model}/stream: who may open a stream."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse, Response

from model_service.access_log import REQUEST_ID_KEY, SERVED_KEY, SESSION_KEY
from model_service.errors import RequestRefused
from model_service.serving import Serving
from model_service.settings import Settings
from model_service.streaming.session import Session

SUBPROTOCOL = "model-service.v1"
UPGRADE_REQUIRED = 426
PATHS = ("/v2/models/{model}/stream", "/v2/models/{model}/versions/{version}/stream")


def add_stream(app: FastAPI, serving: Serving) -> None:
    """Serve streams, and refuse every other WebSocket before it is one."""

    async def stream(websocket: WebSocket) -> None:
        try:
            session = _admit(websocket, serving)
        except RequestRefused as refused:
            headers = {"retry-after": str(refused.retry_after_s)} if refused.retry_after_s else None
            await websocket.send_denial_response(JSONResponse({"error": refused.message}, refused.status, headers))
            return
        offered = websocket.scope["subprotocols"]
        with serving.models.sessions.opened(session):
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await serving.models.sessions.run(session)

    async def no_upgrade() -> Response:
        error = {"error": "a stream is a WebSocket: ask for `Upgrade: websocket`"}
        return JSONResponse(error, UPGRADE_REQUIRED, {"upgrade": "websocket"})

    for path in (*PATHS, "/{path:path}"):
        app.add_api_websocket_route(path, stream)
    for path in PATHS:
        app.add_api_route(path, no_upgrade)


def _admit(websocket: WebSocket, serving: Serving) -> Session:
    """A session with the version that the path names, or the newest. Raises RequestRefused."""
    scope, settings = websocket.scope, serving.settings
    model = websocket.path_params.get("model")
    if model is None:
        raise RequestRefused(404, f"no such path for a WebSocket: {scope['path']}")
    serving.refuse_if_loading()
    scope[SERVED_KEY] = served = serving.models.find(model, websocket.path_params.get("version"))
    _refuse_foreign_page(dict(scope["headers"]), settings)
    serving.models.sessions.refuse_if_full()
    scope[SESSION_KEY] = session = Session(websocket, served, settings, scope[REQUEST_ID_KEY])
    return session


def _refuse_foreign_page(headers: Mapping[bytes, bytes], settings: Settings) -> None:
    """Browsers open WebSockets to any host for any page, with the user's access, and say for which page they do.

    https://www.rfc-editor.org/rfc/rfc6455#section-10.2
    """
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    allowed = settings.stream_origins
    if not origin or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1").lower():
        raise RequestRefused(403, f"pages of {origin} may not open streams here; STREAM_ORIGINS names who may")
