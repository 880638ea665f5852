"""One local AWS, from its first port to its last process: what starts in which order, and how all of it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rehearsal import processes, state
from rehearsal.context import LOOPBACK, Context, Settings
from rehearsal.loopback import bind, in_use
from rehearsal.unusable import Unusable

if TYPE_CHECKING:
    from rehearsal.composition import Part

log = logging.getLogger(__name__)
LOOK_S = 1.0
STOP_S = 20.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def forget_caller(settings: Settings) -> None:
    """Make this process, and all it starts, unable to reach a real AWS account: no profile, no endpoint, no proxy."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MOTO_")) or name.lower() in PROXIES:
            del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="rehearsal",
        AWS_SECRET_ACCESS_KEY="rehearsal",  # noqa: S106 (a word that opens nothing)
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_REGION=settings.region,
        AWS_DEFAULT_REGION=settings.region,
        MOTO_ACCOUNT_ID=settings.account,
    )


def reserve(ports: Sequence[int]) -> dict[int, socket.socket]:
    """Hold ports for the load balancer's listeners, so that no task and no connection is given them meanwhile.

    A held port refuses connections, as the port of a listener that does not exist yet must.
    """
    held = {}
    for port in ports:
        try:
            held[port] = bind(port)
        except OSError as error:
            raise Unusable(f"{in_use(port, LOOPBACK)}.", "choose another port, or end what has it") from error
    return held


class Supervisor:
    """The composition. Everything that happens over time happens in the loop that runs `serve`."""

    def __init__(self, settings: Settings, reserved: dict[int, socket.socket], assumed: Sequence[str]) -> None:
        self._settings, self._reserved, self._assumed = settings, reserved, assumed
        self._started: list[Part] = []
        self._inode = settings.state_dir.stat().st_ino

    async def serve(self) -> None:
        """Be up until one of the ending signals comes, then take everything down."""
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, ending.set)
        # moto reads the account when it is imported, hence not at the top of the file.
        from rehearsal.composition import Composition

        context = Context(self._settings, loop, reserved=self._reserved)
        composition = Composition(context, self._assumed)
        try:
            context.endpoint, context.aws = composition.api.start(), composition.api.door
            for part in composition.parts:
                await part.start()
                self._started.append(part)
            self._announce(context)
            await self._until_asked_or_lost(ending)
            log.info("going down")
        finally:
            if self._has_its_directory():  # else another rehearsal may have it
                state.forget(self._settings.state_dir)
            await self._stop()
            await asyncio.to_thread(composition.api.stop)

    async def _until_asked_or_lost(self, ending: asyncio.Event) -> None:
        """Without its directory nobody could find this process again to end it."""
        while self._has_its_directory():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), LOOK_S)
                return
        log.error("%s was removed", self._settings.state_dir)

    def _has_its_directory(self) -> bool:
        try:
            return self._settings.state_dir.stat().st_ino == self._inode
        except OSError:
            return False

    def _announce(self, context: Context) -> None:
        settings = self._settings
        running = state.Running(
            pid=os.getpid(),
            started_at=processes.started_at(os.getpid()) or "",
            endpoint=context.endpoint,
            registry=context.registry,
            account=settings.account,
            region=settings.region,
            seconds_per_minute=settings.seconds_per_minute,
            engine=settings.engine,
            log=str(settings.state_dir / state.LOG),
            reserved_ports=list(self._reserved),
        )
        state.write(settings.state_dir, running)
        log.info("up at %s, registry %s", context.endpoint, context.registry)

    async def _stop(self) -> None:
        """Stop the parts, last one first; a part that hangs or fails does not keep the others up."""
        for part in reversed(self._started):
            try:
                await asyncio.wait_for(part.stop(), STOP_S)
            except Exception:
                log.exception("%s did not stop cleanly", type(part).__name__)
        for held in self._reserved.values():
            held.close()


def run(settings: Settings, ports: Sequence[int], assumed: Sequence[str]) -> None:
    """Bring the local AWS up in this process and serve until a signal ends it. Raises Unusable.

    `assumed`: `name=value` words for what AWS's documents leave open.
    """
    reserved = reserve(ports)
    forget_caller(settings)
    try:
        asyncio.run(_quietly(Supervisor(settings, reserved, assumed)))
    finally:
        for number in ending_signals():  # all has ended but the interpreter: asked once more, it is still exit 0
            signal.signal(number, signal.SIG_IGN)


def ending_signals() -> list[signal.Signals]:
    """The signals that end a rehearsal; what `nohup` set to be ignored stays so."""
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return [number for number in asked if signal.getsignal(number) is not signal.SIG_IGN]


async def _quietly(supervisor: Supervisor) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_lost)
    await supervisor.serve()


def _log_lost(loop: asyncio.AbstractEventLoop, lost: dict[str, Any]) -> None:
    log.error("%s", lost["message"], exc_info=lost.get("exception"))
