"""Clears what a dead rehearsal left, whichever engine it had."""

from __future__ import annotations

import logging
from pathlib import Path

from rehearsal.ecs import processes
from rehearsal.ecs.engines.docker_api import find_daemon
from rehearsal.ecs.engines.docker_guardian import sweep
from rehearsal.unusable import Unusable

log = logging.getLogger(__name__)
DIRECTORY_LABEL = "onnxship.rehearsal"
NOTE = "in-docker"


def note_docker(state_dir: Path) -> None:
    """Write down that this rehearsal has something in Docker; `forget_docker` when it has no more."""
    (state_dir / NOTE).touch()


def forget_docker(state_dir: Path) -> None:
    """Nothing is in Docker any more."""
    (state_dir / NOTE).unlink(missing_ok=True)


def clear(state_dir: Path) -> None:
    """End the tasks that a dead rehearsal of this directory left, and remove what was theirs."""
    processes.clear_leftovers(state_dir)
    if (state_dir / NOTE).exists():
        try:
            sweep(find_daemon(), f"{DIRECTORY_LABEL}={state_dir}")
        except (Unusable, OSError) as error:
            log.warning("containers of an earlier rehearsal may be left: %s", error)
            return
        forget_docker(state_dir)
