"""A process's life: listen, load, serve; on SIGTERM drain, finish what is in flight, end.

ECS sends SIGTERM, and SIGKILL after the container's stopTimeout:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html#container_definition_timeout
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from model_service.access_log import AccessLog, fields
from model_service.admin_app import create_admin_app
from model_service.app import create_app
from model_service.emf import tell_cloudwatch
from model_service.errors import StartRefused
from model_service.hot_path import hot_protocol
from model_service.patience import patient_protocol
from model_service.serving import Serving
from model_service.settings import Settings
from model_service.streaming.protocol import stream_protocol

if TYPE_CHECKING:
    from model_service.oip_grpc.server import GrpcServer

# Longer than the load balancer's idle timeout of 60 s, so that never the target closes first and makes a 502.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#connection-idle-timeout
KEEP_ALIVE_S = 75
BACKLOG = 2048
# At the end a connection is waited for that has not asked anything yet, and for requests over all others, so long.
FIRST_REQUEST_S, ON_THE_WIRE_S = 1.0, 0.1
PING_S = 20.0  # a third of that idle timeout

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: two of them share this process, and signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the connections that were made, listen no more, and close what is idle only then: uvicorn would cut off
        requests that are on their way."""
        made = [connection for listener in sockets or () for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        for connection in made:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await self._wait_for_first_requests()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(self.config, self.server_state, self.lifespan.state)
        return protocol

    async def _wait_for_first_requests(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FIRST_REQUEST_S
        await asyncio.sleep(ON_THE_WIRE_S)
        while loop.time() < deadline and any(_is_unasked(one) for one in self.server_state.connections):
            await asyncio.sleep(ON_THE_WIRE_S)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartRefused if it cannot listen or the model cannot be served."""
    serving = Serving(settings)
    sockets = [_listen(settings.bind_host, settings.port), _listen(settings.bind_host, settings.admin_port)]
    log = AccessLog(serving)
    patient = patient_protocol(settings)
    http = hot_protocol(serving, log) if settings.hot_path == "on" else patient
    servers = [
        _server(create_app(serving, log), settings, http, stream_protocol(settings.read_timeout_s)),
        _server(create_admin_app(serving), settings, patient, "none"),
    ]
    stopping = _stopping_event()
    if settings.exit_with_fd >= 0:
        _stop_at_end_of(settings.exit_with_fd, stopping)
    running = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in zip(servers, sockets, strict=True)]
    ports = dict(zip(("port", "admin_port"), (sock.getsockname()[1] for sock in sockets), strict=True))
    grpc_server = await _start_grpc(serving, log)
    if grpc_server:
        ports["grpc_port"] = grpc_server.port
    logger.info("listening on %s", settings.bind_host, extra=fields(**ports))
    recurring = [asyncio.create_task(serving.reload_api_keys())]
    if settings.emf_namespace:
        told = tell_cloudwatch(serving.models, settings.emf_namespace, settings.emf_interval_s)
        recurring.append(asyncio.create_task(told))
    await _load_and_wait(serving, stopping)
    for task in recurring:
        task.cancel()
    await _drain(serving)
    left_s = await _end_streams(serving)
    for server in servers:
        server.config.timeout_graceful_shutdown = left_s  # type: ignore[assignment]  # uvicorn waits for any number
        server.should_exit = True
    if grpc_server:
        running.append(asyncio.create_task(grpc_server.stop(left_s)))
    await asyncio.gather(*running)
    log.flush()
    logger.info("stopped")


async def _load_and_wait(serving: Serving, stopping: asyncio.Event) -> None:
    """Load while liveness answers; return when the process is to stop, even if that is before the model is there."""
    loading = asyncio.create_task(serving.load(Path.cwd()))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({loading, stop}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        loading.result()
        polling = asyncio.create_task(serving.control.poll()) if serving.settings.model_control == "poll" else None
        await stop
        if polling:
            polling.cancel()


async def _drain(serving: Serving) -> None:
    """Answer `not ready` and keep serving, until the load balancer has had time to see it."""
    was_ready = serving.is_ready
    serving.is_draining = True
    if was_ready:
        logger.info("stopping: not ready any more, still serving for %g s", serving.settings.drain_s)
        serving.models.sessions.all_go_away()
        await asyncio.sleep(serving.settings.drain_s)


async def _end_streams(serving: Serving) -> float:
    """Let streams answer what they have taken, before uvicorn would close them; what is then left of SHUTDOWN_S."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + serving.settings.shutdown_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await serving.models.sessions.all_closed()
    return max(0.0, deadline - loop.time())


def _server(app: ASGIApp, settings: Settings, http: type[asyncio.Protocol], ws: Any) -> Server:
    config = uvicorn.Config(
        app,
        http=http,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("x-onnxship-release", settings.release_id)],  # here, so that no answer of uvicorn's own lacks it
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_s,
        ws=ws,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # tensors hardly shrink, and each stream would hold two compressors
    )
    return Server(config)


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that callers have made and nobody has accepted: closing the listener would reset them."""
    with contextlib.suppress(OSError):  # there is none any more, or no file descriptor for it
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def _is_unasked(connection: Any) -> bool:
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None


async def _start_grpc(serving: Serving, log: AccessLog) -> GrpcServer | None:
    """The server on GRPC_PORT, if there is one to be. Raises StartRefused if what it needs is not installed."""
    if serving.settings.grpc_port < 0:
        return None
    try:
        from model_service.oip_grpc.server import GrpcServer
    except ModuleNotFoundError as error:
        raise StartRefused(
            f"GRPC_PORT is set, but `{error.name}` is not installed: install `onnxship[grpc]`, "
            "or build the image with `--build-arg GRPC=1`"
        ) from error
    server = GrpcServer(serving, log)
    await server.start(serving.settings.bind_host, serving.settings.grpc_port)
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartRefused(f"cannot listen on {host} port {port}: {error}") from error


def _stop_at_end_of(fd: int, stopping: asyncio.Event) -> None:
    """Stop when the pipe's other end is closed, as it is when the process that holds it is gone, however it ended."""
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        if not os.read(fd, 1024):
            loop.remove_reader(fd)
            logger.info("stopping: the process that started this one is gone")
            stopping.set()

    try:
        os.fstat(fd)
        loop.add_reader(fd, on_readable)
    except OSError as error:
        raise StartRefused(f"EXIT_WITH_FD={fd} cannot be read: {error}") from error


def _stopping_event() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            logger.error("second signal: stopping at once")
            sys.stdout.flush()
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stopping
