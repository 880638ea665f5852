"""A container's own health check, run as its definition says.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rehearsal.ecs.engines.contract import RunningContainer
from rehearsal.ecs.state import Container

FIRST_INTERVAL_S = 2.0


def watch_health(container: Container, running: RunningContainer) -> asyncio.Task[None]:
    """A watch that keeps `container.health` and ends when the container is unhealthy."""
    return asyncio.create_task(_watch(container, container.definition["healthCheck"], running))


async def _watch(container: Container, check: dict[str, Any], running: RunningContainer) -> None:
    """Ask often until the first success; failures count no faster than the definition's interval."""
    interval, start_period = check.get("interval", 30), check.get("startPeriod", 0)
    begun = counted_at = time.monotonic()
    failures = 0
    while container.health != "UNHEALTHY":
        await asyncio.sleep(min(interval, FIRST_INTERVAL_S) if container.health == "UNKNOWN" else interval)
        good = await running.passes(check["command"], check.get("timeout", 5))
        now = time.monotonic()
        if good:
            container.health, failures = "HEALTHY", 0
        elif now - counted_at >= interval and now - begun >= start_period:
            failures, counted_at = failures + 1, now
        if failures >= check.get("retries", 3):
            container.health = "UNHEALTHY"
