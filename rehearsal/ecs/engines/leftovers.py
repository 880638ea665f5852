"""Clears what a dead rehearsal left, whichever engine it had."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from rehearsal.ecs import processes
from rehearsal.ecs.engines.docker_guardian import forget_images, sweep
from rehearsal.unusable import Unusable

log = logging.getLogger(__name__)
DIRECTORY_LABEL = "onnxship.rehearsal"
NOTE = "in-docker"


def note_docker(state_dir: Path, registry: str) -> None:
    """Write down that this rehearsal, with this registry, has something in Docker; `forget_docker` when no more."""
    (state_dir / NOTE).write_text(registry)


def forget_docker(state_dir: Path) -> None:
    """Nothing is in Docker any more."""
    (state_dir / NOTE).unlink(missing_ok=True)


def clear(state_dir: Path) -> None:
    """End the tasks that a dead rehearsal of this directory left, and remove what was theirs."""
    processes.clear_leftovers(state_dir)
    if (state_dir / NOTE).exists():
        from rehearsal.ecs.engines.docker_api import find_daemon  # aiohttp comes with it

        try:
            daemon, registry = find_daemon(), (state_dir / NOTE).read_text()
            sweep(daemon, f"{DIRECTORY_LABEL}={state_dir}")
            if not _answers(registry):  # the port may be another rehearsal's by now
                forget_images(daemon, registry)
        except (Unusable, OSError) as error:
            log.warning("containers of an earlier rehearsal may be left: %s", error)
            return
        forget_docker(state_dir)


def _answers(registry: str) -> bool:
    host, _, port = registry.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except (OSError, ValueError):
        return False
    return True
