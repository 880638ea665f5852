"""Engine `process`: a container is a process group of this machine under a guardian; no daemon, no base image."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rehearsal.context import LOOPBACK, Context
from rehearsal.ecs import containers as made
from rehearsal.ecs.engines.contract import OUT_OF_MEMORY, Exit, Order
from rehearsal.ecs.engines.memory import container_limit, resident_bytes, task_limit
from rehearsal.ecs.images import Image, Images
from rehearsal.ecs.processes import Command, Process
from rehearsal.ecs.state import Task

MEMORY_POLL_S = 0.5


class ProcessContainer:
    """One container's process."""

    def __init__(self, process: Process, command: Command, limit_bytes: int | None) -> None:
        self._process, self._command = process, command
        self._limit_bytes = limit_bytes
        self._reason: str | None = None
        self._is_over = False

    @property
    def output(self) -> asyncio.StreamReader:
        return self._process.output

    async def wait(self) -> Exit:
        """See RunningContainer."""
        code = await self._process.wait()
        self._is_over = True
        return Exit(code, self._reason)

    def terminate(self) -> None:
        """SIGTERM to the process group."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the process group."""
        self._process.kill()

    async def passes(self, command: list[str], timeout_s: float) -> bool:
        """See RunningContainer; the command runs as the container's own does."""
        pid_file = self._command.pid_file.with_suffix(".health.pid")
        check = replace(self._command, argv=health_words(command), pid_file=pid_file)
        process = await Process.start(check, quiet=True)
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({ended}, timeout=timeout_s)
            return ended.done() and ended.result() == 0
        finally:
            process.kill()

    def used_bytes(self, resident: Counter[int]) -> int:
        """What it uses now; 0 once it has ended."""
        group = None if self._is_over else _recorded_group(self._command.pid_file)
        return resident[group] if group else 0

    def is_over_limit(self, used_bytes: int) -> bool:
        """Whether that is more than its own definition allows."""
        return self._limit_bytes is not None and used_bytes > self._limit_bytes

    def end_for_memory(self) -> None:
        """What the kernel does on Fargate when a control group is out of memory."""
        self._reason = f"{OUT_OF_MEMORY} (rehearsal: RSS poll)"
        self.kill()


class ProcessSandbox:
    """A task's directory, its loopback ports, and its processes."""

    def __init__(self, context: Context, task: Task, on_removed: Callable[[ProcessSandbox], None]) -> None:
        self._context, self._task, self._on_removed = context, task, on_removed
        self._directory = context.settings.state_dir / "tasks" / task.id
        self._ports: dict[int, int] = {}
        self._running: list[ProcessContainer] = []

    async def start(self, order: Order) -> ProcessContainer:
        """See Sandbox."""
        definition, image = order.container, order.image
        self._choose_ports()
        mounts = made.mounts_of(definition, self._directory)
        root = await asyncio.to_thread(made.root_of, definition, image, self._directory)
        inside = made.directory_of(image, root)
        environment = made.environment_of(definition, image, order.override, order.secrets, self._ports, mounts)
        command = Command(
            made.command_of(definition, image, order.override),
            {
                **environment,
                **made.aws_environment(self._context.settings, self._context.endpoint),
                **self._own_environment(inside),
            },
            inside,
            self._directory / f"{definition['name']}.pid",
        )
        container = ProcessContainer(await Process.start(command), command, container_limit(definition, order.override))
        self._running.append(container)
        return container

    def _choose_ports(self) -> None:
        inside = [port for one in self._task.containers for port, _ in made.port_names(one.definition)]
        if not self._ports:
            self._ports = dict(zip(inside, made.free_ports(len(inside)), strict=True))

    def _own_environment(self, inside: Path) -> dict[str, str]:
        return {
            "BIND_HOST": LOOPBACK,
            "HOME": str(self._directory),
            "PYTHONPATH": str(inside),
            "PYTHONDONTWRITEBYTECODE": "1",  # the image's files are shared between tasks
        }

    async def ports(self) -> dict[int, int]:
        """See Sandbox."""
        return self._ports

    async def remove(self) -> None:
        """See Sandbox."""
        self._on_removed(self)
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def limit_memory(self, resident: Counter[int]) -> None:
        """End the containers that use more than they may; for the task's own limit, the greatest."""
        used = {one: one.used_bytes(resident) for one in self._running}
        over = [one for one, used_bytes in used.items() if one.is_over_limit(used_bytes)]
        limit = task_limit(self._task)
        if not over and limit is not None and sum(used.values()) > limit:
            over = [max(used, key=lambda one: used[one])]
        for one in over:
            one.end_for_memory()


class ProcessEngine:
    """The default: needs nothing but this Python."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._images = Images(context)
        self._sandboxes: set[ProcessSandbox] = set()
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See Engine."""
        self._watching = asyncio.create_task(self._watch_memory())

    async def close(self) -> None:
        """See Engine."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def pull(self, reference: str, digest: str | None) -> Image:
        """See Engine."""
        return await self._images.pull(reference, digest)

    def sandbox(self, task: Task) -> ProcessSandbox:
        """See Engine."""
        sandbox = ProcessSandbox(self._context, task, self._sandboxes.discard)
        self._sandboxes.add(sandbox)
        return sandbox

    async def _watch_memory(self) -> None:
        """RLIMIT_AS would be the kernel's own way, but ONNX Runtime reserves far more addresses than it uses."""
        while True:
            await asyncio.sleep(MEMORY_POLL_S)
            resident = await asyncio.to_thread(resident_bytes)
            for sandbox in list(self._sandboxes):
                sandbox.limit_memory(resident)


def health_words(command: list[str]) -> list[str]:
    """CMD runs the words, CMD-SHELL a shell line; `python` is the rehearsal's own interpreter."""
    if command[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", *command[1:]]
    words = command[1:] if command[0] == "CMD" else command
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


def _recorded_group(pid_file: Path) -> int | None:
    """The process group that the guardian wrote down; None before that, and after its end."""
    try:
        return int(pid_file.read_text(encoding="utf-8").splitlines()[1].split()[0])
    except (FileNotFoundError, IndexError):
        return None
