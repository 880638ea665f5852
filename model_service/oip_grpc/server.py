"""The server on GRPC_PORT. It shares the event loop, the models and the access log with the HTTP applications.

Messages pass grpc as bytes: so those of callers without a key are not read, and those that are no message are refused
in words.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read at the import: what grpc would print comes as an error too

import grpc
from grpc import StatusCode

from model_service.access_log import CLIENT_CLOSED_REQUEST, HEALTH_PATHS, AccessLog, choose_request_id
from model_service.errors import StartRefused, as_refused
from model_service.oip_grpc.exchange import CALLS, Exchange
from model_service.oip_grpc.messages import SERVICE
from model_service.serving import Serving

CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
LARGEST_LIMIT = 2**31 - 1

Context = Any  # grpc.aio.ServicerContext, which does not say that what passes are bytes
Call = Callable[[Exchange], Awaitable[bytes]]


class GrpcServer:
    """The six calls of the Open Inference Protocol, answered on `port` from `start` to `stop`."""

    def __init__(self, serving: Serving, log: AccessLog) -> None:
        self.port = 0
        self._serving = serving
        self._log = log
        options = [
            ("grpc.max_receive_message_length", min(serving.settings.max_body_bytes, LARGEST_LIMIT)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ]
        self._server = grpc.aio.server(options=options)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._answer, f"/{SERVICE}/{name}", CALLS[name]))
            for name in CALLS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, host: str, port: int) -> None:
        """Listen; on a port of the system's choice for 0. Raises StartRefused."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartRefused(f"cannot listen on {host} port {port} (GRPC_PORT)") from error
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no further call, tell callers to go elsewhere, and give those in flight `grace_s`."""
        await self._server.stop(grace_s)

    async def _answer(self, path: str, call: Call, message: bytes, context: Context) -> bytes:
        """The answer's bytes; grpc gets errors as a status, and the log has its line either way."""
        started = time.perf_counter()
        headers = {key.encode(): _as_bytes(value) for key, value in context.invocation_metadata()}
        request_id = choose_request_id(headers)
        exchange = Exchange(self._serving, message, context.time_remaining())
        status = 500
        try:
            self._require_key(path, headers)
            context.set_trailing_metadata(self._metadata(request_id))
            answer = await call(exchange)
            status = 200
            return answer
        except asyncio.CancelledError:
            status = CLIENT_CLOSED_REQUEST
            raise
        except Exception as error:
            told = as_refused(error, request_id)
            status = told.status
            await context.abort(
                CODES.get(status, StatusCode.UNKNOWN), told.message, self._metadata(request_id, told.retry_after_s)
            )
            raise  # which `abort` has done, but does not say so
        finally:
            self._log.write(
                request_id=request_id,
                method="POST",
                path=path,
                status=status,
                started=started,
                headers=headers,
                served=exchange.served,
            )

    def _require_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        keys = self._serving.api_keys
        if keys and path not in HEALTH_PATHS:
            keys.require(headers, "infer", where="in the metadata `authorization: Bearer KEY` or `x-api-key: KEY`")

    def _metadata(self, request_id: str, retry_after_s: int | None = None) -> tuple[tuple[str, str], ...]:
        metadata = (("x-request-id", request_id), ("x-onnxship-release", self._serving.settings.release_id))
        if retry_after_s is None:
            return metadata
        # https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
        return (*metadata, ("grpc-retry-pushback-ms", str(retry_after_s * 1000)))


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
