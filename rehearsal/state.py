"""What a rehearsal leaves on disk about itself: one file that others read, one lock that only one process holds."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from rehearsal import processes
from rehearsal.unusable import Unusable

FILE = "rehearsal.json"
LOCK = "rehearsal.lock"
LOG = "rehearsal.log"
CLAIM_S = 30.0


@dataclass(frozen=True)
class Running:
    """A rehearsal that is up: where it answers, which process it is, which ports it keeps for listeners."""

    pid: int
    started_at: str
    endpoint: str
    registry: str
    account: str
    region: str
    seconds_per_minute: float
    engine: str
    log: str
    reserved_ports: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Holder:
    """The process that has a directory to itself: a rehearsal from its first moment to its last."""

    pid: int
    started_at: str


def write(state_dir: Path, running: Running) -> None:
    """Say that the rehearsal is up, in one step: a reader sees the whole file or none."""
    unfinished = state_dir / (FILE + ".new")
    try:
        unfinished.write_text(json.dumps(asdict(running), indent=2) + "\n")
        unfinished.replace(state_dir / FILE)
    finally:
        unfinished.unlink(missing_ok=True)


def read(state_dir: Path) -> Running | None:
    """What the state file says, whether or not that process still runs; None when there is no such file or word."""
    try:
        return Running(**json.loads((state_dir / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: written by another version
        return None


def live(state_dir: Path) -> Running | None:
    """The rehearsal of this directory if it runs."""
    running = read(state_dir)
    return running if running and processes.is_alive(running.pid, running.started_at) else None


def forget(state_dir: Path) -> None:
    """Remove the state file: nothing answers here any more."""
    (state_dir / FILE).unlink(missing_ok=True)


def claim(state_dir: Path) -> IO[str]:
    """The directory's lock, with this process as its holder. Raises Unusable when another rehearsal has it.

    One that is just starting is waited for until it can be named, and one that is just ending until it has ended.
    """
    deadline = time.monotonic() + CLAIM_S
    while (lock := hold(state_dir)) is None:
        if (running := live(state_dir)) or time.monotonic() > deadline:
            raise _taken(state_dir, running)
        time.sleep(0.1)
    lock.truncate(0)
    lock.write(f"{os.getpid()} {processes.started_at(os.getpid())}\n")
    lock.flush()
    return lock


def _taken(state_dir: Path, running: Running | None) -> Unusable:
    holder = running or holder_of(state_dir)
    which = f"process {holder.pid}, {running.endpoint if running else 'starting or ending'}" if holder else "going down"
    return Unusable(
        f"A rehearsal already runs for {state_dir} ({which}).", f"python -m rehearsal down --state-dir {state_dir}"
    )


def hold(state_dir: Path) -> IO[str] | None:
    """The directory's lock for as long as the file stays open; None when another process holds it.

    The kernel lets go of it however its holder ends, so a crash leaves nothing to clean up.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def holder_of(state_dir: Path) -> Holder | None:
    """The living process that the lock file names."""
    pid, _, started_at = (state_dir / LOCK).read_text().strip().partition(" ")
    if not pid.isdigit() or not processes.is_alive(int(pid), started_at):
        return None
    return Holder(int(pid), started_at)
