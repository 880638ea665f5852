"""The rehearsal's ECS as a part of the rehearsal."""

from __future__ import annotations

import asyncio
import contextlib

import moto.ecs.urls

from rehearsal.context import Context
from rehearsal.ecs.engines import choice, leftovers
from rehearsal.ecs.front import EcsFront
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.scheduler import Scheduler

NOT_REHEARSED = (
    "AWS_LAMBDA lifecycle hooks are refused; PAUSE hooks are rehearsed.",
    "DAEMON services, service discovery, Service Connect, EBS volumes and VPC Lattice are refused.",
    "ECS itself is a reading of its documents; where they are silent one behaviour is assumed, and named.",
)


class Ecs:
    """Services, deployments and tasks that really run. `questions` chooses where AWS's documents are silent.

    Raises Unusable when this machine has not what the engine needs.
    """

    not_rehearsed = NOT_REHEARSED

    def __init__(self, context: Context, questions: OpenQuestions | None = None) -> None:
        self._context = context
        self._engine = choice.make(context)
        self.scheduler = Scheduler(context, questions or OpenQuestions(), self._engine)
        self._loop_task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Answer ECS's actions in place of moto; before the server's first request."""
        moto.ecs.urls.url_paths["{0}/$"] = EcsFront.bound(self._context, self.scheduler).dispatch

    async def start(self) -> None:
        """Clear what a dead rehearsal left behind, then tend services."""
        await asyncio.to_thread(leftovers.clear, self._context.settings.state_dir)
        await self._engine.open()
        self._loop_task = asyncio.create_task(self.scheduler.run())

    async def stop(self) -> None:
        """Stop every task; returns when all that they were is gone."""
        if self._loop_task:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        await self.scheduler.close()
        await self._engine.close()
