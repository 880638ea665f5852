"""What the figures were measured on: they mean little without it."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("onnxruntime", "uvicorn", "fastapi", "numpy")


def describe() -> dict[str, object]:
    """Processor, cores, memory, system, versions, and how busy the machine was before anything started."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "busy_cores_before": round(psutil.cpu_percent(1.0) / 100 * (os.cpu_count() or 1), 2),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    widest = next((flag for flag in ("amx_tile", "avx512f", "avx2") if flag in flags), "")
    return f"{next(named, platform.machine())} ({widest})" if widest else next(named, platform.machine())
