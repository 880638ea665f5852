"""How many CPUs this container may use: the quota of its control group, or else the process's affinity.

`os.cpu_count()` and ONNX Runtime's own default see the whole host, and threads beyond the quota are throttled.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Whole CPUs, at least 1: the smaller of the quota (rounded up) and the affinity."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(cgroup_root / "cpu.max") or _quota_v1(cgroup_root / "cpu")
    return max(1, min(affinity, math.ceil(quota))) if quota else affinity


def _quota_v2(cpu_max: Path) -> float | None:
    """`cpu.max` holds "<quota|max> <period>" in microseconds: https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    if not cpu_max.is_file():
        return None
    quota, period = cpu_max.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(directory: Path) -> float | None:
    """A quota of -1 is none: https://docs.kernel.org/scheduler/sched-bwc.html"""
    quota_file, period_file = directory / "cpu.cfs_quota_us", directory / "cpu.cfs_period_us"
    if not quota_file.is_file() or not period_file.is_file():
        return None
    quota = int(quota_file.read_text())
    return None if quota <= 0 else quota / int(period_file.read_text())
