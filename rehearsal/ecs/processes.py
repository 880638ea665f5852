"""A container as a real process group under its guardian, and the clearing of what an earlier rehearsal left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rehearsal.ecs import guardian

ORPHAN_GRACE_S = 3.0
EXIT_POLL_S = 0.05
OUTPUT_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Command:
    """What to run: words, environment, working directory, and where the guardian writes its pid file."""

    argv: list[str]
    environment: dict[str, str]
    directory: Path
    pid_file: Path


class Process:
    """One running container process."""

    def __init__(self, process: asyncio.subprocess.Process, pid_file: Path) -> None:
        self._process = process
        self._pid_file = pid_file

    @classmethod
    async def start(cls, command: Command, quiet: bool = False) -> Process:
        """Start the guardian, which starts the process; unless `quiet`, both streams come by `output`."""
        command.pid_file.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-S", "-E", guardian.__file__, str(command.pid_file), str(ORPHAN_GRACE_S)]
        process = await asyncio.create_subprocess_exec(
            *words,
            *command.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=command.environment,
            cwd=command.directory,
            start_new_session=True,
            limit=OUTPUT_LIMIT_BYTES,
        )
        return cls(process, command.pid_file)

    @property
    def output(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    async def wait(self) -> int:
        """The container's exit code: its own, or 128 + the signal that ended it."""
        while (code := self._process.returncode) is None:  # asyncio's own wait also waits for the output's end
            await asyncio.sleep(EXIT_POLL_S)
        end_recorded(self._pid_file)  # nothing is left of the group unless somebody killed the guardian itself
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """SIGTERM to the process group."""
        self._tell(b"T")

    def kill(self) -> None:
        """SIGKILL to the process group."""
        self._tell(b"K")

    def _tell(self, word: bytes) -> None:
        if self._process.returncode is None and self._process.stdin:
            self._process.stdin.write(word)


def end_recorded(pid_file: Path) -> None:
    """Kill the processes that a pid file names, if they are still the same ones, and remove the file."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    guardian_pid, group = (_alive(line) for line in (*lines, "", "")[:2])
    with contextlib.suppress(ProcessLookupError):  # ended since it was looked at
        if group:
            os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        if guardian_pid:
            os.kill(guardian_pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def clear_orphans(directory: Path) -> int:
    """End every process that the pid files under `directory` still rightly name; how many files there were."""
    files = sorted(directory.rglob("*.pid")) if directory.is_dir() else []
    for file in files:
        end_recorded(file)
    return len(files)


def clear_leftovers(state_dir: Path) -> None:
    """End the tasks that a dead rehearsal of this directory left, and remove their files and half-made images."""
    clear_orphans(state_dir / "tasks")
    shutil.rmtree(state_dir / "tasks", ignore_errors=True)
    for unfinished in (state_dir / "images").glob("unpacking-*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _alive(line: str) -> int | None:
    number, _, recorded = line.partition(" ")
    return int(number) if recorded and guardian.identity(int(number)) == recorded else None
