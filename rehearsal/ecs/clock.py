"""The time that deployments see."""

from __future__ import annotations

import asyncio
import time

from rehearsal.context import Context


class Clock:
    """Real time, in which AWS minutes of bake and traffic steps are short."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait for real seconds."""
        await asyncio.sleep(seconds)

    def minutes(self, aws_minutes: float) -> float:
        """Real seconds that stand for AWS minutes."""
        return self._context.minutes(aws_minutes)
