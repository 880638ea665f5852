"""How much memory a task and its containers may use, and how much process groups do use."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

from rehearsal.ecs.state import Json, Task

MIB = 1 << 20
PROC = Path("/proc")


def task_limit(task: Task) -> int | None:
    """Bytes that all containers of a task may use together, None without a limit."""
    mib = task.overrides.get("memory") or task.task_definition.get("memory")
    return int(mib) * MIB if mib else None


def container_limit(container: Json, override: Json) -> int | None:
    """Bytes that one container may use by its own definition (`memory`, the hard limit), None without a limit."""
    mib = override.get("memory") or container.get("memory")
    return int(mib) * MIB if mib else None


def resident_bytes() -> Counter[int]:
    """Resident memory per process group of this machine; pages that processes share count for each."""
    return _from_proc() if (PROC / "self/stat").exists() else _from_ps()


def _from_proc() -> Counter[int]:
    page, found = os.sysconf("SC_PAGE_SIZE"), Counter[int]()
    for process in filter(str.isdigit, os.listdir(PROC)):
        try:
            with open(PROC / process / "stat", "rb", buffering=0) as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(fields[2])] += int(fields[21]) * page  # pgrp and rss of proc_pid_stat(5)
    return found


def _from_ps() -> Counter[int]:
    told = subprocess.run(["ps", "-axo", "pgid=,rss="], capture_output=True, text=True, check=True).stdout
    found = Counter[int]()
    for line in told.splitlines():
        group, kib = line.split()
        found[int(group)] += int(kib) * 1024
    return found
