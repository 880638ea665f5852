"""How much memory this container may use, by its control group or else the machine; and how to use little of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
# All threads but the main one share an arena of glibc's. Each would have one of its own, which keeps what a run or a
# load took; with two, idle memory is the same after a hundred swaps, and no throughput is lost (within 1 %).
ARENAS = 2
M_ARENA_MAX = -8  # https://man7.org/linux/man-pages/man3/mallopt.3.html
FILES = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and version 1

USAGE_FILES = (
    ("memory.max", "memory.current", ("memory.stat", "inactive_file")),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        ("memory/memory.stat", "total_inactive_file"),
    ),
)


def available_memory_bytes(cgroup_root: Path = CGROUP_ROOT) -> int:
    """The smaller of the limit and the machine's memory: https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [text for file in FILES if (path := cgroup_root / file).is_file() and (text := path.read_text().strip())]
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])


def free_memory_bytes(cgroup_root: Path = CGROUP_ROOT) -> int:
    """What could be taken without swapping or being killed: the page cache does not count as taken.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = int(meminfo["MemAvailable"].split()[0]) * 1024
    for limit, current, inactive in USAGE_FILES:
        if (cgroup_root / current).is_file() and (text := (cgroup_root / limit).read_text().strip()).isdigit():
            stat = dict(line.split() for line in (cgroup_root / inactive[0]).read_text().splitlines())
            taken = int((cgroup_root / current).read_text()) - int(stat[inactive[1]])
            return min(machine, int(text) - taken)
    return machine


def give_back_freed_memory() -> None:
    """Return to the system what was freed; glibc alone would keep much of what a load took on the way."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def share_arenas() -> None:
    """Hold glibc to ARENAS; before there are threads. What the user's own environment says of it counts instead."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    own = "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if mallopt and not own:
        mallopt(M_ARENA_MAX, ARENAS)
