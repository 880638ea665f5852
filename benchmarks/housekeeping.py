"""One benchmark at a time, and no server that outlives it: a benchmark that was killed can end nothing itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.errors import CannotMeasure


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the directory; what an earlier benchmark left running is ended first. Raises CannotMeasure when held."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotMeasure(f"A benchmark runs in {directory} already.", "wait for its end") from error
        _end_left_over(directory / "sessions")
        yield


def note(file: Path, pid: int) -> None:
    """Write down a session's first process and when it started, which tells it from a later one with its number."""
    with file.open("a") as sessions:
        sessions.write(f"{pid} {psutil.Process(pid).create_time()}\n")


def members(session: int) -> list[psutil.Process]:
    """All processes that live in a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found


def _end_left_over(file: Path) -> None:
    noted = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    for pid, created in noted:
        first = next((process for process in members(int(pid)) if process.pid == int(pid)), None)
        if first and str(first.create_time()) == created:
            for process in members(int(pid)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
    file.unlink(missing_ok=True)
