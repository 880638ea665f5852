"""The demo's own processes: one demo at a time in a directory, and no child that outlives it unseen.

A demo that was killed can end nothing, so each child is written down with the time at which it started, which tells it
from a later process with the same number; the next demo ends those that are left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

END_S = 20.0


class Busy(Exception):
    """Another demo runs in this directory."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the directory; the hold ends with this process, however it ends. Raises Busy."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Beside the directory, which every demo empties; not handed on to children.
    with open(directory.with_suffix(".lock"), "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"A demo runs in {directory} already.") from error
        yield


def started_at(pid: int) -> str:
    """When the process started; empty when it has ended, even if nobody has taken notice of that yet."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    state, _, started = (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().partition(" ")
    )
    return "" if state.startswith("Z") else started.strip()


def note(file: Path, pid: int) -> None:
    """Write a child down."""
    with open(file, "a") as children:
        children.write(f"{pid} {started_at(pid)}\n")


def end(child: subprocess.Popen[str], patience_s: float = END_S) -> None:
    """Ask the child to end, and wait; what does not listen is killed."""
    child.terminate()
    try:
        child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def end_left_over(file: Path) -> list[int]:
    """End the children of a demo that was killed; those that still ran."""
    lines = file.read_text().splitlines() if file.exists() else []
    noted = [(int(pid), when) for pid, _, when in (line.partition(" ") for line in lines)]
    running = [(pid, when) for pid, when in noted if when and started_at(pid) == when]
    for number, patience_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        alive = [(pid, when) for pid, when in running if started_at(pid) == when]
        for pid, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while any(started_at(pid) == when for pid, when in alive) and time.monotonic() < deadline:
            time.sleep(0.2)
    return [pid for pid, _ in running]
