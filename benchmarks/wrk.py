"""Load by wrk: closed loop, keep-alive, one thread, so that the generator leaves the machine to the server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import processes
from benchmarks.cells import Cell
from benchmarks.errors import CannotMeasure

SCRIPT = Path(__file__).with_name("rotate.lua")
TIMEOUT_S = 60


def find() -> str:
    """wrk's path. Raises CannotMeasure where it is not installed."""
    if path := shutil.which("wrk"):
        return path
    raise CannotMeasure("wrk, the load generator, is not installed.", "on Debian and Ubuntu: apt-get install wrk")


def write_requests(directory: Path, requests: Sequence[bytes]) -> None:
    """Whole requests, for rotate.lua."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for number, request in enumerate(requests):
        (directory / f"{number:03}.http").write_bytes(request)


def start(port: int, directory: Path, *, connections: int, seconds: int) -> subprocess.Popen[str]:
    """wrk at work; `read_result` waits for it."""
    count = len(list(directory.glob("*.http")))
    command = [find(), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}/", "--"]
    return processes.start_apart([*command, str(directory), str(count)])


def read_result(running: subprocess.Popen[str]) -> Cell:
    """Its cell; rates count answers with status 200, of which there are none where nobody listens.

    Raises CannotMeasure with what wrk wrote when it failed.
    """
    output, _ = running.communicate()
    if "unable to connect" in output:
        return Cell(rate_per_s=0, p50_ms=0, p99_ms=0)
    line = output.strip().rpartition("\n")[2]
    if running.returncode or not line.startswith("{"):
        raise CannotMeasure(f"wrk failed with exit code {running.returncode}: {output.strip()[-300:]}", "see above")
    result = json.loads(line)
    answered = result["requests"] - result["refused"]
    return Cell(
        rate_per_s=answered / result["duration_us"] * 1e6,
        p50_ms=result["p50_us"] / 1000,
        p99_ms=result["p99_us"] / 1000,
        failed=result["refused"] + result["broken"],
    )
