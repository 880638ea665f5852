"""What an engine is: it gets images, and gives each task a sandbox in which its containers run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from rehearsal.ecs.images import Image
from rehearsal.ecs.state import Json, Task

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


@dataclass(frozen=True)
class Exit:
    """How a container ended: its exit code, and ECS's word for it where there is one."""

    code: int
    reason: str | None = None


@dataclass(frozen=True)
class Order:
    """One container that is to run: definition, RunTask's override of it, image, and its secrets by name."""

    container: Json
    override: Json
    image: Image
    secrets: dict[str, str]


class RunningContainer(Protocol):
    """A container that was started."""

    @property
    def output(self) -> asyncio.StreamReader:
        """Both of its streams."""

    async def wait(self) -> Exit:
        """Its end."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    async def passes(self, command: list[str], timeout_s: float) -> bool:
        """Whether a health check's command ends with 0 in it, in time."""


class Sandbox(Protocol):
    """What the containers of one task share. Raises CannotStart for what cannot be."""

    async def start(self, order: Order) -> RunningContainer:
        """Start one container."""

    async def ports(self) -> dict[int, int]:
        """Container port -> loopback port, of all containers; asked once they have started."""

    async def remove(self) -> None:
        """Remove what the containers left."""


class Engine(Protocol):
    """What runs tasks."""

    async def open(self) -> None:
        """Be ready for tasks. Raises Unusable when this machine cannot run them."""

    async def close(self) -> None:
        """Give back what `open` took; every task has ended."""

    async def pull(self, reference: str, digest: str | None) -> Image:
        """The image of a container definition, or that very digest of it. Raises CannotPull."""

    def sandbox(self, task: Task) -> Sandbox:
        """A place of its own for a task."""
