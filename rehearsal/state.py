"""What a rehearsal leaves on disk about itself: one file that others read, one lock that only one process holds."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from rehearsal import processes

FILE = "rehearsal.json"
LOCK = "rehearsal.lock"
LOG = "rehearsal.log"


@dataclass(frozen=True)
class Running:
    """A rehearsal that is up: where it answers, and which process it is."""

    pid: int
    started_at: str
    endpoint: str
    registry: str
    account: str
    region: str
    seconds_per_minute: float
    engine: str
    log: str


def write(state_dir: Path, running: Running) -> None:
    """Say that the rehearsal is up, in one step: a reader sees the whole file or none."""
    handle, name = tempfile.mkstemp(dir=state_dir, prefix=FILE)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(running), file, indent=2)
        file.write("\n")
    Path(name).replace(state_dir / FILE)


def read(state_dir: Path) -> Running | None:
    """What the state file says, whether or not that process still runs."""
    try:
        return Running(**json.loads((state_dir / FILE).read_text()))
    except FileNotFoundError:
        return None


def live(state_dir: Path) -> Running | None:
    """The rehearsal of this directory if it runs."""
    running = read(state_dir)
    return running if running and processes.is_alive(running.pid, running.started_at) else None


def forget(state_dir: Path) -> None:
    """Remove the state file: nothing answers here any more."""
    (state_dir / FILE).unlink(missing_ok=True)


def hold(state_dir: Path) -> IO[str] | None:
    """The directory's lock for as long as the file stays open; None when another process holds it.

    The kernel lets go of it however its holder ends, so a crash leaves nothing to clean up.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
