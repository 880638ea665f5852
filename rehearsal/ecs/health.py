"""A container's own health check, run as its definition says.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from typing import Any

from rehearsal.ecs.processes import Command, Process
from rehearsal.ecs.state import Container

FIRST_INTERVAL_S = 2.0


def watch_health(container: Container, command: Command) -> asyncio.Task[None]:
    """A watch that keeps `container.health` and ends when the container is unhealthy."""
    return asyncio.create_task(_watch(container, container.definition["healthCheck"], command))


async def _watch(container: Container, check: dict[str, Any], command: Command) -> None:
    """Ask often until the first success; failures count no faster than the definition's interval."""
    interval, start_period = check.get("interval", 30), check.get("startPeriod", 0)
    begun = counted_at = time.monotonic()
    failures = 0
    while container.health != "UNHEALTHY":
        await asyncio.sleep(min(interval, FIRST_INTERVAL_S) if container.health == "UNKNOWN" else interval)
        good = await _passes(words_of(check["command"]), command, check.get("timeout", 5))
        now = time.monotonic()
        if good:
            container.health, failures = "HEALTHY", 0
        elif now - counted_at >= interval and now - begun >= start_period:
            failures, counted_at = failures + 1, now
        if failures >= check.get("retries", 3):
            container.health = "UNHEALTHY"


def words_of(command: list[str]) -> list[str]:
    """CMD runs the words, CMD-SHELL a shell line; `python` is the rehearsal's own interpreter."""
    if command[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", *command[1:]]
    words = command[1:] if command[0] == "CMD" else command
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


async def _passes(words: list[str], command: Command, timeout_s: float) -> bool:
    check = replace(command, argv=words, pid_file=command.pid_file.with_suffix(".health.pid"))
    process = await Process.start(check, quiet=True)
    ended = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({ended}, timeout=timeout_s)
        return ended.done() and ended.result() == 0
    finally:
        process.kill()
