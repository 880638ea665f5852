"""The application on ADMIN_PORT, which no target group exposes: metrics, and what changes what is served."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp

from model_service.errors import RequestRefused
from model_service.http.authorization import RequireKey
from model_service.http.error_answers import add_error_answers
from model_service.runtime.model import profile
from model_service.serving import Serving
from model_service.threads import in_thread


def create_admin_app(serving: Serving) -> ASGIApp:
    """The application on ADMIN_PORT."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    add_error_answers(app)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(serving.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/v2/repository/index")
    async def index() -> Response:
        return JSONResponse(await serving.control.index())

    @app.post("/v2/models/{model}/profile")
    async def profile_model(model: str, runs: Annotated[int, Query(ge=1, le=1000)] = 20) -> Response:
        """Where the model's time goes, node by node, on the row that warmed it up."""
        loaded = serving.models.find(model).loaded
        path, device, directory = loaded.stored.model_path, loaded.model.device, serving.settings.model_dir
        made = await in_thread(partial(profile, path, loaded.row, device=device, runs=runs, directory=directory))
        return Response(made, media_type="application/json")

    _add_load_and_unload(app, serving)
    return RequireKey(app, serving.api_keys, "admin") if serving.api_keys else app


def _add_load_and_unload(app: FastAPI, serving: Serving) -> None:
    """Triton's model repository extension, for MODEL_CONTROL=explicit.

    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_repository.html
    """

    def refuse_if_not_explicit() -> None:
        control = serving.settings.model_control
        if control != "explicit":
            raise RequestRefused(404, f"MODEL_CONTROL is {control}; to load and unload takes MODEL_CONTROL=explicit")

    @app.post("/v2/repository/models/{model}/load")
    async def load(model: str) -> Response:
        refuse_if_not_explicit()
        serving.refuse_if_loading()
        await serving.control.load(model)
        return Response()

    @app.post("/v2/repository/models/{model}/unload")
    async def unload(model: str) -> Response:
        refuse_if_not_explicit()
        serving.refuse_if_loading()
        await serving.control.unload(model)
        return Response()
