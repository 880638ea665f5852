"""The served application: routes, and every error as {"error": "..."}. Bodies are read raw, because the protocol's
own clients send no Content-Type."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from model_service import protocol
from model_service.access_log import REQUEST_ID_KEY, AccessLog, fields
from model_service.docs_page import add_docs_page
from model_service.errors import RequestRefused, UserCodeFailed
from model_service.loading import Served
from model_service.openapi import describe
from model_service.predict import predict
from model_service.serving import Serving

BINARY_HEADER = "inference-header-content-length"
# No standard has a status for it; nobody receives this one, but the log has it, in nginx's number.
CLIENT_CLOSED_REQUEST = 499

logger = logging.getLogger(__name__)


def create_app(serving: Serving) -> ASGIApp:
    """The application on PORT."""
    app = FastAPI(
        title="onnxship model service",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    _add_health(app, serving)
    _add_metadata(app, serving)
    _add_inference(app, serving)
    add_docs_page(app)
    add_error_answers(app)
    app.openapi = lambda: describe(serving)  # type: ignore[method-assign]
    return AccessLog(app, serving)


def create_admin_app(serving: Serving) -> ASGIApp:
    """The application on ADMIN_PORT, which no target group exposes."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    add_error_answers(app)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(serving.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _add_health(app: FastAPI, serving: Serving) -> None:
    @app.get("/v2/health/live")
    async def live() -> Response:
        """True while the model loads: a container that loads must not be replaced."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        """The specification prints "live" in this body, KServe's client reads "ready": both are here."""
        if serving.is_ready:
            return JSONResponse({"live": True, "ready": True})
        return JSONResponse({"live": True, "ready": False, "error": serving.not_ready_reason}, 503)


def _add_metadata(app: FastAPI, serving: Serving) -> None:
    @app.get("/v2")
    @app.get("/v2/")
    async def server_metadata() -> Response:
        return JSONResponse(protocol.SERVER_METADATA)

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def model_metadata(request: Request) -> Response:
        return JSONResponse(protocol.model_metadata(_asked_for(request, serving).model))

    @app.get("/v2/models/{model}/ready")
    @app.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(request: Request) -> Response:
        name = _asked_for(request, serving).model.name
        if serving.is_ready:
            return JSONResponse({"name": name, "ready": True})
        return JSONResponse({"name": name, "ready": False, "error": serving.not_ready_reason}, 503)


def _add_inference(app: FastAPI, serving: Serving) -> None:
    max_rows, max_body_bytes = serving.settings.max_rows, serving.settings.max_body_bytes

    @app.post("/v2/models/{model}/infer")
    @app.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(request: Request) -> Response:
        _asked_for(request, serving)
        if BINARY_HEADER in request.headers:
            raise RequestRefused(400, "binary tensor data is not supported; send the tensors as JSON")
        body = await _body(request, max_body_bytes)
        answer = await serving.answer("infer", lambda served: protocol.infer(served.model, body, max_rows=max_rows))
        return Response(answer.body, media_type="application/json")

    @app.post("/predict")
    async def predict_rows(request: Request) -> Response:
        body, content_type = await _body(request, max_body_bytes), request.headers.get("content-type", "")
        work = partial(_predict, body=body, content_type=content_type, max_rows=max_rows)
        answer = await serving.answer("predict", work)
        return Response(answer.body, media_type="application/json")


def _predict(served: Served, *, body: bytes, content_type: str, max_rows: int) -> protocol.Answer:
    return predict(served.model, served.roles, served.user_code, body, content_type, max_rows=max_rows)


def _asked_for(request: Request, serving: Serving) -> Served:
    """The model that the path names. Raises RequestRefused: 503 before there is one, 404 for any other."""
    served = serving.current()
    name, version = request.path_params["model"], request.path_params.get("version")
    if name != served.model.name:
        raise RequestRefused(404, f"unknown model `{name}`; this server has `{served.model.name}`")
    if version not in (None, served.model.version):
        raise RequestRefused(404, f"unknown version `{version}`; `{name}` has `{served.model.version}`")
    return served


async def _body(request: Request, max_bytes: int) -> bytes:
    """The body as it was sent. Raises RequestRefused: 415 if it is compressed, 413 if it is larger than `max_bytes`."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RequestRefused(415, f"Content-Encoding `{encoding}` is not supported; send the body as it is")
    too_large = RequestRefused(413, f"the body is larger than {max_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > max_bytes:  # the server has checked that it is a number
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def add_error_answers(app: FastAPI) -> None:
    """FastAPI's own errors are {"detail": ...}, which the protocol's clients cannot read."""

    @app.exception_handler(RequestRefused)
    async def refused(request: Request, error: RequestRefused) -> Response:
        if error.status == 500:
            request_id = request.scope.get(REQUEST_ID_KEY)
            words = error.for_log if isinstance(error, UserCodeFailed) else error.message
            logger.error("%s", words, exc_info=error.__cause__, extra=fields(request_id=request_id))
        headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s else None
        return _error(error.status, error.message, headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        words = {404: f"no such path: {request.url.path}", 405: f"{request.method} is not allowed here"}
        return _error(error.status_code, words.get(error.status_code, str(error.detail)), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return _error(CLIENT_CLOSED_REQUEST, "the caller has gone")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _error(422, "; ".join(str(fault["msg"]) for fault in error.errors()))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return _error(500, "internal error; the log has the cause under this answer's X-Request-Id")


def _error(status: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status, headers=headers)
