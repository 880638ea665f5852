"""Every error as {"error": "..."}: FastAPI's own are {"detail": ...}, which the protocol's clients cannot read."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from model_service.access_log import CLIENT_CLOSED_REQUEST, REQUEST_ID_KEY
from model_service.errors import RequestRefused, as_refused


def add_error_answers(app: FastAPI, where_to_look: str = "") -> None:
    """Answer all that can go wrong in `app` in this form. A path that there is not is answered with `where_to_look`."""

    @app.exception_handler(RequestRefused)
    async def refused(request: Request, error: RequestRefused) -> Response:
        told = as_refused(error, request.scope.get(REQUEST_ID_KEY))
        headers = {"retry-after": str(told.retry_after_s)} if told.retry_after_s else None
        return _error(told.status, told.message, headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        words = {404: f"no such path: {request.url.path}{where_to_look}", 405: f"{request.method} is not allowed here"}
        return _error(error.status_code, words.get(error.status_code, str(error.detail)), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return _error(CLIENT_CLOSED_REQUEST, "the caller has gone")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = (f"{fault['loc'][-1]}={fault['input']!r}: {fault['msg']}" for fault in error.errors())
        return _error(400, "; ".join(faults))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return _error(500, "internal error; the log has the cause under this answer's X-Request-Id")


def _error(status: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status, headers=headers)
