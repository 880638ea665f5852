"""How many CPUs this container may use: the quota of its control group, or else the process's affinity.

`os.cpu_count()` and ONNX Runtime's own default see the whole host, and threads beyond the quota are throttled.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def available_cpus(proc: Path = PROC) -> int:
    """Whole CPUs, at least 1: the smaller of the quota (rounded up: half a CPU still needs one thread) and affinity."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(proc)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cpu_quota(proc: Path = PROC) -> float | None:
    """CPUs by the tightest quota of this process's control group and those above it that can be seen; None for none.

    Linux says which group in two files of /proc/<pid>: https://man7.org/linux/man-pages/man7/cgroups.7.html
    """
    if not (proc / "cgroup").is_file() or not (proc / "mountinfo").is_file():
        return None
    directories = list(_directories(proc))
    quotas = [*map(_quota_v1, directories), *map(_quota_v2, directories)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _directories(proc: Path) -> Iterator[Path]:
    """The group's directory and those above it, up to where the hierarchy is mounted.

    A container may see its own group as the mount's root (a control group namespace, or Docker with version 1, where
    the path is still the host's), or the host's whole tree.
    """
    is_v1, path = _group(proc)
    for root, point in _mounts(proc, is_v1=is_v1):
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
        yield from (point / part for part in (inside, *inside.parents))


def _group(proc: Path) -> tuple[bool, PurePosixPath]:
    """Whether version 1 has the controller `cpu`, and the group's path. A line is `id:controllers:path`."""
    lines = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    v1 = [path for _, controllers, path in lines if "cpu" in controllers.split(",")]
    v2 = [path for _, controllers, path in lines if not controllers]
    return bool(v1), PurePosixPath((v1 or v2 or ["/"])[0])


def _mounts(proc: Path, *, is_v1: bool) -> Iterator[tuple[PurePosixPath, Path]]:
    """Root within the hierarchy, and mount point: fields 4 and 5 of mountinfo; type and options stand after ` - `."""
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if (kind == "cgroup" and "cpu" in options.split(",")) if is_v1 else kind == "cgroup2":
            root, point = map(_unescaped, before.split(" ")[3:5])
            yield PurePosixPath(root), Path(point)


def _unescaped(field: str) -> str:
    """Blanks and backslashes stand as octal numbers: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _quota_v1(directory: Path) -> float | None:
    """A quota of -1 is none: https://docs.kernel.org/scheduler/sched-bwc.html"""
    quota_file, period_file = directory / "cpu.cfs_quota_us", directory / "cpu.cfs_period_us"
    if not quota_file.is_file() or not period_file.is_file():
        return None
    quota = int(quota_file.read_text())
    return None if quota <= 0 else quota / int(period_file.read_text())


def _quota_v2(directory: Path) -> float | None:
    """`cpu.max` holds "<quota|max> <period>" in microseconds: https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    cpu_max = directory / "cpu.max"
    if not cpu_max.is_file():
        return None
    quota, period = cpu_max.read_text().split()
    return None if quota == "max" else int(quota) / int(period)
