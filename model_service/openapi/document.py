"""The OpenAPI document of what is served now: https://spec.openapis.org/oas/v3.1.0"""

from __future__ import annotations

from typing import Any

from model_service.inference.protocol import SERVER_METADATA, model_metadata
from model_service.openapi import infer, predict
from model_service.openapi.operations import (
    ERRORS,
    KEY_SCHEMES,
    Schema,
    answers,
    operation,
    text_schema,
    version_parameter,
)
from model_service.served import Served
from model_service.serving import Serving
from model_service.statistics import configuration, statistics
from model_service.tensors import BY_NAME

DESCRIPTION = """The [Open Inference Protocol](https://github.com/kserve/open-inference-protocol), version 2, and
`/predict` for callers who know their model and not the protocol. Bodies may be compressed (`Content-Encoding: gzip` or
`deflate`), answers are where `Accept-Encoding` asks for it. Every error is `{"error": "..."}`; besides those that stand
at each operation, 404 for a path that is not listed here, 405 with `Allow` for a method that is not, and 431 for
headers that are too large.

`GET /v2/models/{model}/stream` is a WebSocket, for which this document has no form: each message is a body of `/infer`,
as text in JSON, or binary as a little-endian uint32 with the length of the JSON, the JSON, and the tensors behind it.
Answers come in the order of the messages."""
TENSOR_FACTS: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": text_schema(),
        "datatype": {"enum": list(BY_NAME)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
    },
}
STATISTICS: Schema = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {"model_stats": {"type": "array", "items": {"type": "object", "required": ["name", "version"]}}},
}


def describe(serving: Serving) -> dict[str, Any]:
    """The document; before the models are loaded, of the health endpoints and the server alone."""
    models = _newest_first(serving) if serving.is_loaded else {}
    default = serving.models.default if models else None
    paths = _server_paths()
    for versions in models.values():
        paths |= _model_paths(versions, serving)
    if default:
        paths |= predict.paths("/predict", [default], serving.settings)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "onnxship model service",
            "description": DESCRIPTION,
            "version": f"{default.model.name} {default.model.version}" if default else "loading",
        },
        "tags": [{"name": "server"}, *({"name": name} for name in models)],
        "paths": paths,
        "components": {"responses": ERRORS},
    }
    return _with_keys(document) if serving.api_keys else document


def _newest_first(serving: Serving) -> dict[str, list[Served]]:
    """Every model's versions, the one first that a path without a version asks."""
    models: dict[str, list[Served]] = {}
    for served in reversed(serving.models.all):
        models.setdefault(served.model.name, []).append(served)
    return dict(reversed(models.items()))


def _server_paths() -> dict[str, Any]:
    live = {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}}
    ready = {
        "type": "object",
        "required": ["live", "ready"],
        "properties": {"live": {"const": True}, "ready": {"type": "boolean"}, "error": text_schema()},
    }
    metadata = {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": text_schema(),
            "version": text_schema(),
            "extensions": {"type": "array", "items": text_schema()},
        },
    }
    is_ready = answers("Whether requests should be sent here", ready, {"live": True, "ready": True})
    not_ready = answers("Not now; `error` says why", ready, status="503")
    return {
        "/v2/health/live": {
            "get": operation("Whether the process lives", "server", answers("It does", live, {"live": True}))
        },
        "/v2/health/ready": {"get": operation("Whether the models are ready", "server", is_ready | not_ready)},
        "/v2": {"get": operation("The server", "server", answers("The server", metadata, SERVER_METADATA))},
        "/v2/models/stats": {
            "get": operation(
                "What all models have answered", "server", answers("Counts and times", STATISTICS, statistics([]))
            )
        },
    }


def _model_paths(versions: list[Served], serving: Serving) -> dict[str, Any]:
    """The paths of a model, without a version and with one."""
    name = versions[0].model.name
    paths: dict[str, Any] = {}
    for base, parameters, asked in (
        (f"/v2/models/{name}", [], versions[:1]),
        (f"/v2/models/{name}/versions/{{version}}", [version_parameter(versions)], versions),
    ):
        described = _metadata_paths(base, asked, serving)
        described |= infer.paths(f"{base}/infer", asked, serving.settings)
        described |= predict.paths(f"{base}/predict", asked, serving.settings)
        paths |= {path: item | ({"parameters": parameters} if parameters else {}) for path, item in described.items()}
    return paths


def _metadata_paths(base: str, versions: list[Served], serving: Serving) -> dict[str, Any]:
    served = versions[0]
    name = served.model.name
    metadata: Schema = {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"const": name},
            "versions": {"type": "array", "items": text_schema()},
            "platform": text_schema(),
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": TENSOR_FACTS},
            "outputs": {"type": "array", "items": TENSOR_FACTS},
        },
    }
    ready: Schema = {
        "type": "object",
        "required": ["name", "ready"],
        "properties": {"name": {"const": name}, "ready": {"type": "boolean"}, "error": text_schema()},
    }
    config: Schema = {"type": "object", "required": ["name", "platform", "max_batch_size", "input", "output"]}
    told = model_metadata(served.model, serving.models.versions(name))
    is_ready = answers("Whether requests should be sent", ready, {"name": name, "ready": True})
    is_ready |= answers("Not now; `error` says why", ready, status="503")
    of_model = {
        "": operation("Its inputs and outputs", name, answers("The model", metadata, told), "404", "503"),
        "/ready": operation("Whether it is ready", name, is_ready, "404"),
        "/stats": operation(
            "What it has answered, in Triton's words",
            name,
            answers("Counts and times", STATISTICS, statistics([served])),
            "404",
            "503",
        ),
        "/config": operation(
            "Its configuration, in Triton's words",
            name,
            answers("The configuration", config, configuration(served)),
            "404",
            "503",
        ),
    }
    return {f"{base}{path}": {"get": described} for path, described in of_model.items()}


def _with_keys(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a server that asks for API keys, everywhere but at the health endpoints."""
    document["components"]["securitySchemes"] = KEY_SCHEMES
    document["security"] = [{name: []} for name in KEY_SCHEMES]
    for path, item in document["paths"].items():
        for described in (item[method] for method in ("get", "post") if method in item):
            if path.startswith("/v2/health/"):
                described["security"] = []
            else:
                refused = {status: {"$ref": f"#/components/responses/{status}"} for status in ("401", "403")}
                described["responses"] |= refused
    return document
