"""Which process is meant: a pid alone may be a stranger's by now, so its start goes with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")


def started_at(pid: int) -> str | None:
    """When `pid` was started, in words that only compare equal for the same process; None when it is gone.

    Linux tells clock ticks since boot, which no change of the clock moves; elsewhere (macOS) `ps` knows.
    """
    if (PROC / "self" / "stat").exists():
        return _from_proc(pid)
    return _from_ps(pid)


def is_alive(pid: int, start: str) -> bool:
    """True when the very process that was started at `start` still runs."""
    return started_at(pid) == start


def end(pid: int, start: str, grace_s: float) -> bool:
    """Ask the process to end, wait, then kill it. True when it was alive and is gone now."""
    if not is_alive(pid, start):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not wait_gone(pid, start, grace_s):
        _kill_group(pid)
        wait_gone(pid, start, 5.0)
    return not is_alive(pid, start)


def wait_gone(pid: int, start: str, timeout_s: float) -> bool:
    """True as soon as the process has ended, False when it still runs after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while is_alive(pid, start):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        kill = os.killpg if os.getpgid(pid) == pid else os.kill
        kill(pid, signal.SIGKILL)


def _from_proc(pid: int) -> str | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        return None
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[19]}"  # field 22 of proc_pid_stat(5), counted after the name in brackets


def _from_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    state, _, start = answer.stdout.strip().partition(" ")
    return None if not start or state.startswith("Z") else start.strip()
