"""The rehearsal's ECS as a part of the rehearsal."""

from __future__ import annotations

import asyncio
import contextlib

import moto.ecs.urls

from rehearsal.context import Context
from rehearsal.ecs.front import EcsFront
from rehearsal.ecs.processes import clear_leftovers
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.scheduler import Scheduler

NOT_REHEARSED = (
    "Task memory and CPU limits are not enforced: a task is never stopped with OutOfMemoryError.",
    "AWS_LAMBDA lifecycle hooks are refused; PAUSE hooks are rehearsed.",
    "DAEMON services, service discovery, Service Connect, EBS volumes and VPC Lattice are refused.",
    "The image's base system, user, read-only root and Linux capabilities are not used: its command runs in this"
    " machine's Python.",
    "ECS itself is a reading of its documents; where they are silent one behaviour is assumed, and named.",
)


class Ecs:
    """Services, deployments and tasks that really run. `questions` chooses where AWS's documents are silent."""

    not_rehearsed = NOT_REHEARSED

    def __init__(self, context: Context, questions: OpenQuestions | None = None) -> None:
        if context.settings.engine != "process":
            raise ValueError(f"engine {context.settings.engine!r}: this rehearsal runs tasks as processes only")
        self._context = context
        self.scheduler = Scheduler(context, questions or OpenQuestions())
        self._loop_task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Answer ECS's actions in place of moto; before the server's first request."""
        moto.ecs.urls.url_paths["{0}/$"] = EcsFront.bound(self._context, self.scheduler).dispatch

    async def start(self) -> None:
        """Clear what a dead rehearsal left behind, then tend services."""
        await asyncio.to_thread(clear_leftovers, self._context.settings.state_dir)
        self._loop_task = asyncio.create_task(self.scheduler.run())

    async def stop(self) -> None:
        """Stop every task; returns when their processes are gone."""
        if self._loop_task:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await self.scheduler.close()
