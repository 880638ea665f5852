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
from pathlib import Path
from typing import TYPE_CHECKING

from model_service.access_log import AccessLog, fields
from model_service.emf import tell_cloudwatch
from model_service.errors import StartRefused
from model_service.http.admin_app import create_admin_app
from model_service.http.app import create_app
from model_service.http.hot_path import hot_protocol
from model_service.http.patience import patient_protocol
from model_service.http.server import create_server
from model_service.serving import Serving
from model_service.settings import Settings
from model_service.streaming.protocol import stream_protocol

if TYPE_CHECKING:
    from model_service.oip_grpc.server import GrpcServer

BACKLOG = 2048

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartRefused if it cannot listen or the model cannot be served."""
    serving = Serving(settings)
    sockets = [_listen(settings.bind_host, settings.port), _listen(settings.bind_host, settings.admin_port)]
    log = AccessLog(serving)
    patient = patient_protocol(settings)
    http = hot_protocol(serving, log) if settings.hot_path == "on" else patient
    servers = [
        create_server(create_app(serving, log), settings, http, stream_protocol(settings.read_timeout_s)),
        create_server(create_admin_app(serving), settings, patient, "none"),
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
