"""A container's own health check."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from rehearsal.ecs.engines.process import ProcessContainer, health_words
from rehearsal.ecs.health import watch_health
from rehearsal.ecs.processes import Command, Process
from rehearsal.ecs.state import Container


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["CMD", "python", "-m", "model_service.health"], [sys.executable, "-m", "model_service.health"]),
        (["CMD-SHELL", "exit 0"], ["/bin/sh", "-c", "exit 0"]),
    ],
)
def test_health_commands_are_words_or_a_shell_line(given, expected):
    """CMD and CMD-SHELL as ECS knows them."""
    assert health_words(given) == expected


def health_after(tmp_path, code, **check):
    """A container's health once it is known."""
    definition = {"name": "model", "healthCheck": {"command": ["CMD", "python", "-c", code], "interval": 0.1, **check}}
    container = Container("arn", definition)
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    command = Command(words, dict(os.environ), tmp_path, tmp_path / "model.pid")

    async def watch() -> str:
        process = await Process.start(command)
        watching = watch_health(container, ProcessContainer(process, command, None))
        while container.health == "UNKNOWN":
            await asyncio.sleep(0.05)
        watching.cancel()
        await asyncio.wait({watching})
        process.kill()
        await process.wait()
        return container.health

    return asyncio.run(asyncio.wait_for(watch(), 30))


def test_a_check_that_passes_makes_the_container_healthy(tmp_path):
    """One success is enough."""
    assert health_after(tmp_path, "pass") == "HEALTHY"


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "import time; time.sleep(60)"])
def test_a_check_that_fails_or_hangs_makes_it_unhealthy(tmp_path, code):
    """After its retries the container is UNHEALTHY, and no check is left running."""
    assert health_after(tmp_path, code, retries=2, timeout=1) == "UNHEALTHY"
