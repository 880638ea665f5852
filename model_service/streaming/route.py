"""/v2/models/{model}/stream: who may open a stream, and its line in the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse, Response

from model_service.access_log import AccessLog, choose_request_id
from model_service.errors import RequestRefused
from model_service.serving import Serving
from model_service.settings import Settings
from model_service.streaming.session import Session

SUBPROTOCOL = "model-service.v1"
SWITCHING_PROTOCOLS = 101
PATHS = ("/v2/models/{model}/stream", "/v2/models/{model}/versions/{version}/stream")


def add_stream(app: FastAPI, serving: Serving, log: AccessLog) -> None:
    """Serve streams, and refuse every other WebSocket before it is one."""

    async def stream(websocket: WebSocket) -> None:
        await _serve(websocket, serving, log)

    for path in (*PATHS, "/{path:path}"):
        app.add_api_websocket_route(path, stream)

    async def no_upgrade() -> Response:
        error = {"error": "a stream is a WebSocket: ask for `Upgrade: websocket`"}
        return JSONResponse(error, 426, {"upgrade": "websocket"})  # the server itself adds `connection`

    for path in PATHS:
        app.add_api_route(path, no_upgrade, include_in_schema=False)


async def _serve(websocket: WebSocket, serving: Serving, log: AccessLog) -> None:
    started = time.perf_counter()
    headers = dict(websocket.scope["headers"])
    request_id = choose_request_id(headers)
    path = websocket.url.path
    write_log = partial(log.write, request_id=request_id, method="GET", path=path, started=started, headers=headers)
    try:
        session = _admit(websocket, serving, headers, request_id)
    except RequestRefused as refused:
        await websocket.send_denial_response(_denial(refused, request_id, serving.settings))
        write_log(status=refused.status)
        return
    sessions = serving.models.sessions
    sessions.add(session)
    try:
        offered = websocket.scope["subprotocols"]
        chosen = SUBPROTOCOL if SUBPROTOCOL in offered else None
        await websocket.accept(chosen, [(b"x-request-id", request_id.encode())])
        await sessions.run(session)
    finally:
        sessions.remove(session)
        write_log(status=SWITCHING_PROTOCOLS, served=session.served, session=session)


def _admit(websocket: WebSocket, serving: Serving, headers: Mapping[bytes, bytes], request_id: str) -> Session:
    """A session with the version that the path names, or the newest. Raises RequestRefused."""
    model = websocket.path_params.get("model")
    if model is None:
        raise RequestRefused(404, f"no such path for a WebSocket: {websocket.url.path}")
    serving.refuse_if_loading()
    served = serving.models.find(model, websocket.path_params.get("version"))
    _refuse_foreign_page(headers, serving.settings)
    serving.models.sessions.refuse_if_full()
    return Session(websocket, served, serving.settings, request_id)


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


def _denial(refused: RequestRefused, request_id: str, settings: Settings) -> Response:
    headers = {"x-request-id": request_id, "x-onnxship-release": settings.release_id}
    if refused.retry_after_s:
        headers["retry-after"] = str(refused.retry_after_s)
    return JSONResponse({"error": refused.message}, refused.status, headers)
