"""The served application: routes, and every error as {"error": "..."}. Bodies are read raw, because the protocol's
own clients send no Content-Type."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from model_service.access_log import SERVED_KEY, AccessLog, LogRequests
from model_service.endpoints import Endpoint, answer_headers
from model_service.errors import RequestRefused
from model_service.http.authorization import RequireKey
from model_service.http.docs_page import add_docs_page
from model_service.http.error_answers import add_error_answers
from model_service.inference import protocol
from model_service.openapi.document import describe
from model_service.scheduling.job import Answer, answer_of
from model_service.served import Served
from model_service.serving import Serving
from model_service.statistics import configuration, statistics
from model_service.streaming.route import add_stream

PROBES = ["GET", "HEAD"]


def create_app(serving: Serving, log: AccessLog) -> ASGIApp:
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
    add_stream(app, serving)
    add_docs_page(app)
    add_error_answers(app, where_to_look="; GET /docs shows all that there are")
    app.openapi = lambda: describe(serving)  # type: ignore[method-assign]
    guarded = RequireKey(app, serving.api_keys, "infer") if serving.api_keys else app
    return LogRequests(guarded, serving, log)


def _add_health(app: FastAPI, serving: Serving) -> None:
    @app.api_route("/v2/health/live", methods=PROBES)
    async def live() -> Response:
        """True while the model loads: a container that loads must not be replaced."""
        return JSONResponse({"live": True})

    @app.api_route("/v2/health/ready", methods=PROBES)
    async def ready() -> Response:
        """The specification prints "live" in this body, KServe's client reads "ready": both are here."""
        if serving.is_ready:
            return JSONResponse({"live": True, "ready": True})
        return JSONResponse({"live": True, "ready": False, "error": serving.not_ready_reason}, 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        raise RequestRefused(404, "metrics are on ADMIN_PORT, not here")


def _add_metadata(app: FastAPI, serving: Serving) -> None:
    @app.get("/v2")
    @app.get("/v2/")
    async def server_metadata() -> Response:
        return JSONResponse(protocol.SERVER_METADATA)

    @app.get("/v2/models/stats")
    async def all_statistics() -> Response:
        return JSONResponse(statistics(serving.models.all))

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def model_metadata(request: Request) -> Response:
        model = _asked_for(request, serving).model
        return JSONResponse(protocol.model_metadata(model, serving.models.versions(model.name)))

    @app.api_route("/v2/models/{model}/ready", methods=PROBES)
    @app.api_route("/v2/models/{model}/versions/{version}/ready", methods=PROBES)
    async def model_ready(request: Request) -> Response:
        name = _asked_for(request, serving).model.name
        if serving.is_ready:
            return JSONResponse({"name": name, "ready": True})
        return JSONResponse({"name": name, "ready": False, "error": serving.not_ready_reason}, 503)

    @app.get("/v2/models/{model}/stats")
    @app.get("/v2/models/{model}/versions/{version}/stats")
    async def model_statistics(request: Request) -> Response:
        return JSONResponse(statistics([_asked_for(request, serving)]))

    @app.get("/v2/models/{model}/config")
    @app.get("/v2/models/{model}/versions/{version}/config")
    async def model_configuration(request: Request) -> Response:
        return JSONResponse(configuration(_asked_for(request, serving)))


def _add_inference(app: FastAPI, serving: Serving) -> None:
    @app.post("/predict")
    @app.post("/v2/models/{model}/infer")
    @app.post("/v2/models/{model}/predict")
    @app.post("/v2/models/{model}/versions/{version}/infer")
    @app.post("/v2/models/{model}/versions/{version}/predict")
    async def infer(request: Request) -> Response:
        serving.refuse_if_loading()
        endpoint = serving.models.endpoints.get(request.scope["path"].encode())
        if endpoint is None:
            raise _unknown(request, serving)
        request.scope[SERVED_KEY] = endpoint.served
        if refused := endpoint.served.scheduler.refusal(int(request.headers.get("content-length", "0"))):
            raise refused
        body = await _body(request, serving.settings.max_body_bytes)
        answer = await _answer(request, endpoint, body)
        return Response(answer.body, headers={name.decode(): value.decode() for name, value in answer_headers(answer)})


async def _answer(request: Request, endpoint: Endpoint, body: bytes) -> Answer:
    """The answer to the request, unless its caller goes before; then its work is given up."""
    done = asyncio.get_running_loop().create_future()
    headers = dict(request.scope["headers"])
    job = endpoint.submit(headers, body, lambda job: done.set_result(job.outcome), query=request.scope["query_string"])
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        job.give_up()  # which does nothing once it is done
    if not done.done():
        raise ClientDisconnect
    return answer_of(done.result())


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _unknown(request: Request, serving: Serving) -> RequestRefused:
    """Why the path leads to no model."""
    if "model" not in request.path_params:
        asked = serving.settings.default_model
        which = f"DEFAULT_MODEL is `{asked}`, which is not loaded" if asked else "no model is loaded"
        return RequestRefused(404, f"/predict has no model to ask: {which}")
    try:
        serving.models.find(request.path_params["model"], request.path_params.get("version"))
    except RequestRefused as refused:
        return refused
    return RequestRefused(404, f"no such path: {request.url.path}")


def _asked_for(request: Request, serving: Serving) -> Served:
    """The model that the path names. Raises RequestRefused: 503 before there is one, 404 for any other."""
    serving.refuse_if_loading()
    served = serving.models.find(request.path_params["model"], request.path_params.get("version"))
    request.scope[SERVED_KEY] = served
    return served


async def _body(request: Request, max_bytes: int) -> bytes:
    """The body as it was sent. Raises RequestRefused(413) if it is larger than `max_bytes`."""
    too_large = RequestRefused(413, f"the body is larger than {max_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > max_bytes:  # the server has checked that it is a number
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
