"""One task's life: pull, start, run, drain, stop; each container a real process.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rehearsal.context import LOOPBACK, Context
from rehearsal.ecs import containers as made
from rehearsal.ecs.containers import CannotStart
from rehearsal.ecs.health import watch_health
from rehearsal.ecs.images import CannotPull, Image, Images
from rehearsal.ecs.logs import NoLogStream, open_stream, ship
from rehearsal.ecs.processes import Command, Process
from rehearsal.ecs.state import Container, Task
from rehearsal.ecs.task_secrets import SecretMissing, resolve_secrets

DEFAULT_STOP_TIMEOUT_S = 30
CLOSING_GRACE_S = 2.0
LAST_LINES_S = 5.0
UNHEALTHY = "Task failed container health checks"


@dataclass
class Running:
    """A container's process with what belongs to it."""

    container: Container
    process: Process
    shipping: asyncio.Task[None]
    watching: asyncio.Task[None] | None
    exit: asyncio.Task[int]


@dataclass
class TaskRunner:
    """Runs tasks. `on_running` puts a task behind its load balancer; `on_leaving` takes it out and waits for that."""

    context: Context
    images: Images
    on_running: Callable[[Task], Awaitable[None]]
    on_leaving: Callable[[Task, bool], Awaitable[None]]
    running: dict[str, list[Running]] = field(default_factory=dict)
    closing: bool = False

    @property
    def directory(self) -> Path:
        return self.context.settings.state_dir / "tasks"

    async def live(self, task: Task) -> None:
        """The whole life of a task; returns when it has stopped."""
        started: list[Running] = []
        self.running[task.id] = started
        try:
            await self._start(task, started)
            await self._run(task, started)
        except CannotStart as refusal:
            task.ask_to_stop("TaskFailedToStart", str(refusal))
        except OSError as error:  # no room for its files
            task.ask_to_stop("TaskFailedToStart", f"CannotCreateContainerError: {error}")
        except Exception as error:
            task.ask_to_stop("TaskFailedToStart", f"InternalError: {error!r}")
            raise
        finally:
            await self._end(task, started)

    async def _start(self, task: Task, started: list[Running]) -> None:
        images = await self._pull(task)
        ports = await self._ports(task)
        for container, image in zip(task.containers, images, strict=True):
            if task.live:
                started.append(await self._start_container(task, container, image, ports))

    async def _pull(self, task: Task) -> list[Image]:
        self._status(task, "PENDING", "pullStartedAt")
        images = []
        for container in task.containers:
            made.refuse_unrehearsed(container.definition)
            known = task.revision.digests.get(container.name) if task.revision else None
            try:
                image = await self.images.pull(container.definition["image"], known)
            except CannotPull as refusal:
                container.reason = f"CannotPullContainerError: {refusal}"
                raise CannotStart(container.reason) from refusal
            container.digest = image.digest
            if task.revision:  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
                task.revision.digests.setdefault(container.name, image.digest)  # "container image resolution"
            images.append(image)
        task.times["pullStoppedAt"] = time.time()
        return images

    async def _ports(self, task: Task) -> dict[int, int]:
        inside = [port for container in task.containers for port, _ in made.port_names(container.definition)]
        ports = dict(zip(inside, made.free_ports(len(inside)), strict=True))
        if task.ip:
            self.context.addresses.put(task.ip, ports, task.arn)
        return ports

    async def _start_container(self, task: Task, container: Container, image: Image, ports: dict[int, int]) -> Running:
        definition, directory = container.definition, self.directory / task.id
        override = _override(task, container.name)
        mounts = made.mounts_of(definition, directory)
        try:
            secrets = await resolve_secrets(self.context, definition.get("secrets") or [])
            stream = await open_stream(self.context, definition, task.id)
        except (SecretMissing, NoLogStream) as refusal:
            raise CannotStart(f"ResourceInitializationError: {refusal}") from refusal
        root = await asyncio.to_thread(made.root_of, definition, image, directory)
        inside = made.directory_of(image, root)
        environment = made.environment_of(definition, image, override, secrets, ports, mounts)
        command = Command(
            made.command_of(definition, image, override),
            {**environment, **self._engine_environment(directory, inside)},
            inside,
            directory / f"{container.name}.pid",
        )
        process = await Process.start(command)
        container.last_status = "RUNNING"
        return Running(
            container,
            process,
            asyncio.create_task(ship(self.context, stream, process.output)),
            watch_health(container, command) if definition.get("healthCheck") else None,
            asyncio.create_task(process.wait()),
        )

    def _engine_environment(self, directory: Path, inside: Path) -> dict[str, str]:
        settings = self.context.settings
        return {
            "AWS_ENDPOINT_URL": self.context.endpoint,
            "AWS_REGION": settings.region,
            "AWS_DEFAULT_REGION": settings.region,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "BIND_HOST": LOOPBACK,
            "HOME": str(directory),
            "PYTHONPATH": str(inside),
            "PYTHONDONTWRITEBYTECODE": "1",  # the image's files are shared between tasks
        }

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

    async def _end(self, task: Task, started: list[Running]) -> None:
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
        await asyncio.to_thread(shutil.rmtree, self.directory / task.id, ignore_errors=True)
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
        code = await one.exit
        one.container.exit_code = code
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
