"""One task's life: pull, start, run, drain, stop; each container is whatever the engine makes of it.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rehearsal.context import Context
from rehearsal.ecs.containers import CannotStart, refuse_unrehearsed
from rehearsal.ecs.engines.contract import Engine, Exit, Order, RunningContainer, Sandbox
from rehearsal.ecs.health import watch_health
from rehearsal.ecs.images import CannotPull, Image
from rehearsal.ecs.logs import NoLogStream, open_stream, ship
from rehearsal.ecs.state import Container, Task
from rehearsal.ecs.task_secrets import SecretMissing, resolve_secrets

DEFAULT_STOP_TIMEOUT_S = 30
CLOSING_GRACE_S = 2.0
LAST_LINES_S = 5.0
UNHEALTHY = "Task failed container health checks"


@dataclass
class Running:
    """A started container with what belongs to it."""

    container: Container
    process: RunningContainer
    shipping: asyncio.Task[None]
    watching: asyncio.Task[None] | None
    exit: asyncio.Task[Exit]


@dataclass
class TaskRunner:
    """Runs tasks. `on_running` puts a task behind its load balancer; `on_leaving` takes it out and waits for that."""

    context: Context
    engine: Engine
    on_running: Callable[[Task], Awaitable[None]]
    on_leaving: Callable[[Task, bool], Awaitable[None]]
    running: dict[str, list[Running]] = field(default_factory=dict)
    closing: bool = False

    async def live(self, task: Task) -> None:
        """The whole life of a task; returns when it has stopped."""
        started: list[Running] = []
        self.running[task.id] = started
        sandbox = self.engine.sandbox(task)
        try:
            await self._start(task, sandbox, started)
            await self._run(task, started)
        except CannotStart as refusal:
            task.ask_to_stop("TaskFailedToStart", str(refusal))
        except OSError as error:  # no room for its files
            task.ask_to_stop("TaskFailedToStart", f"CannotCreateContainerError: {error}")
        except Exception as error:
            task.ask_to_stop("TaskFailedToStart", f"InternalError: {error!r}")
            raise
        finally:
            await self._end(task, sandbox, started)

    async def _start(self, task: Task, sandbox: Sandbox, started: list[Running]) -> None:
        images = await self._pull(task)
        for container, image in zip(task.containers, images, strict=True):
            if task.live:
                started.append(await self._start_container(task, sandbox, container, image))
        if task.live and task.ip:
            self.context.addresses.put(task.ip, await sandbox.ports(), task.arn)

    async def _pull(self, task: Task) -> list[Image]:
        self._status(task, "PENDING", "pullStartedAt")
        images = []
        for container in task.containers:
            refuse_unrehearsed(container.definition)
            known = task.revision.digests.get(container.name) if task.revision else None
            try:
                image = await self.engine.pull(container.definition["image"], known)
            except CannotPull as refusal:
                container.reason = f"CannotPullContainerError: {refusal}"
                raise CannotStart(container.reason) from refusal
            container.digest = image.digest
            if task.revision:  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
                task.revision.digests.setdefault(container.name, image.digest)  # "container image resolution"
            images.append(image)
        task.times["pullStoppedAt"] = time.time()
        return images

    async def _start_container(self, task: Task, sandbox: Sandbox, container: Container, image: Image) -> Running:
        definition = container.definition
        try:
            secrets = await resolve_secrets(self.context, definition.get("secrets") or [])
            stream = await open_stream(self.context, definition, task.id)
        except (SecretMissing, NoLogStream) as refusal:
            raise CannotStart(f"ResourceInitializationError: {refusal}") from refusal
        try:
            process = await sandbox.start(Order(definition, _override(task, container.name), image, secrets))
        except CannotStart as refusal:
            container.reason = str(refusal)
            raise
        container.last_status = "RUNNING"
        return Running(
            container,
            process,
            asyncio.create_task(ship(self.context, stream, process.output)),
            watch_health(container, process) if definition.get("healthCheck") else None,
            asyncio.create_task(process.wait()),
        )

    async def _run(self, task: Task, started: list[Running]) -> None:
        if not task.live:
            return
        self._status(task, "RUNNING", "startedAt")
        await self.on_running(task)
        essential = [r for r in started if r.container.essential]
        asked = asyncio.create_task(task.stop_asked.wait())
        # "If a task is run manually, ... the task will continue its lifecycle regardless of its health status"
        # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
        unhealthy = {r.watching for r in essential if r.watching and task.revision}
        await asyncio.wait({asked, *(r.exit for r in essential), *unhealthy}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if any(r.exit.done() for r in essential):
            task.ask_to_stop("EssentialContainerExited", "Essential container in task exited")
        task.ask_to_stop("ServiceSchedulerInitiated", UNHEALTHY)

    async def _end(self, task: Task, sandbox: Sandbox, started: list[Running]) -> None:
        task.times["stoppingAt"] = time.time()
        if started:
            self._status(task, "DEACTIVATING")
            if not self.closing:
                await self.on_leaving(task, not any(r.exit.done() for r in started))
            self._status(task, "STOPPING")
            await asyncio.gather(*(self._stop_container(one) for one in started))
        if task.ip:
            self.context.addresses.remove(task.ip)
        task.times.setdefault("executionStoppedAt", time.time())
        await sandbox.remove()
        for container in task.containers:
            container.last_status = "STOPPED"
        self._status(task, "STOPPED", "stoppedAt")
        self.running.pop(task.id, None)
        task.over.set()

    async def _stop_container(self, one: Running) -> None:
        """SIGTERM, stopTimeout real seconds, SIGKILL (API_ContainerDefinition, stopTimeout)."""
        if one.watching:
            one.watching.cancel()
        patience = one.container.definition.get("stopTimeout") or DEFAULT_STOP_TIMEOUT_S
        patience = min(patience, CLOSING_GRACE_S) if self.closing else patience
        one.process.terminate()
        await asyncio.wait({one.exit}, timeout=patience)
        one.process.kill()
        ended = await one.exit
        one.container.exit_code, one.container.reason = ended.code, ended.reason
        await asyncio.wait({one.shipping}, timeout=LAST_LINES_S)
        one.shipping.cancel()  # a process that left the group may hold the output open for ever

    async def close(self) -> None:
        """The rehearsal ends: SIGTERM to every container, and soon SIGKILL; nothing is drained."""
        self.closing = True
        everything = [one for started in self.running.values() for one in started]
        for one in everything:
            one.process.terminate()
        if everything:
            await asyncio.wait([one.exit for one in everything], timeout=CLOSING_GRACE_S)
        for one in everything:
            one.process.kill()
            await one.exit

    def _status(self, task: Task, status: str, moment: str | None = None) -> None:
        task.last_status = status
        if moment:
            task.times[moment] = time.time()


def _override(task: Task, name: str) -> dict[str, Any]:
    overrides = task.overrides.get("containerOverrides") or []
    return next((dict(one) for one in overrides if one.get("name") == name), {})
