"""How much memory this container may use: the limit of its control group, or else the machine's."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
FILES = ("memory.max", "memory/memory.limit_in_bytes")  # of version 2 and version 1


def available_memory_bytes(cgroup_root: Path = CGROUP_ROOT) -> int:
    """The smaller of the limit and the machine's memory: https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [text for file in FILES if (path := cgroup_root / file).is_file() and (text := path.read_text().strip())]
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])
