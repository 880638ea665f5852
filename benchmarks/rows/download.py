"""A model of 1 GB from S3, as nginx on this machine answers for it: `benchmarks.download` as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders import ROOT
from benchmarks.errors import OursDoesNotRun
from benchmarks.field import Bench
from benchmarks.report import Row, compare, not_measured

SIZE_MIB = 1024
WORK = "1 GB model from nginx"


def measure(bench: Bench) -> list[Row]:
    """Ours, boto3's download_file with its defaults, and one plain ranged GET, in turn."""
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin"):
        return [not_measured(WORK, "MB/s", "boto3's defaults", "nginx is not installed", bar=2.0)]
    command = [sys.executable, "-m", "benchmarks.download", "--size-mib", str(SIZE_MIB), "--rounds", str(bench.rounds)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise OursDoesNotRun(f"benchmarks.download ended with exit code {ended.returncode}")
    result = json.loads(ended.stdout)
    for run in result["rounds"]:
        bench.say(
            "    " + ", ".join(f"{name} {run[name]['mb_s']:.0f} MB/s {run[name]['cpu_s']:.2f} CPU s" for name in run)
        )
    return rows_of(result["rounds"], is_right=result["sha_ok"])


def rows_of(rounds: Sequence[Mapping[str, Any]], *, is_right: bool) -> list[Row]:
    """Speed and CPU time against boto3, without and with what ours does too, and speed against the plain GET."""
    mb_s, cpu_s = ({name: [run[name][key] for run in rounds] for name in rounds[0]} for key in ("mb_s", "cpu_s"))
    return [
        compare(WORK, "MB/s", mb_s["ours"], "boto3's defaults", mb_s["boto3"], bar=2),
        compare(WORK, "MB/s", mb_s["ours"], "boto3's, then sha256", mb_s["verified"]),
        compare(WORK, "MB/s", mb_s["ours"], "one plain GET, not verified", mb_s["plain"], aim=1),
        compare(WORK, "CPU s", cpu_s["ours"], "boto3's defaults", cpu_s["boto3"], better="lower", bar=0.6),
        compare(WORK, "CPU s", cpu_s["ours"], "boto3's, then sha256", cpu_s["verified"], better="lower"),
        Row(WORK, "files with a wrong digest", float(not is_right), "none", 0, None, ok=is_right, better="lower"),
    ]
