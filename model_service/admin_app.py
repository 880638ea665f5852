"""The application on ADMIN_PORT, which no target group exposes: metrics, and what changes what is served."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp

from model_service.authorization import RequireKey
from model_service.error_answers import add_error_answers
from model_service.serving import Serving


def create_admin_app(serving: Serving) -> ASGIApp:
    """The application on ADMIN_PORT."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    add_error_answers(app)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(serving.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return RequireKey(app, serving.api_keys, "admin") if serving.api_keys else app
