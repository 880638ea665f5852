"""Which engine there is by which name."""

from __future__ import annotations

from rehearsal.context import Context
from rehearsal.ecs.engines.contract import Engine
from rehearsal.ecs.engines.docker import DockerEngine
from rehearsal.ecs.engines.process import ProcessEngine

ENGINES: dict[str, type[DockerEngine] | type[ProcessEngine]] = {"process": ProcessEngine, "docker": DockerEngine}


def make(context: Context) -> Engine:
    """The engine that the settings name. Raises Unusable when this machine has not what it needs."""
    return ENGINES[context.settings.engine](context)
