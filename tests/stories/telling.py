"""The demo as its user runs it, in a directory of its own, and what its report holds whatever the way it is told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.stories.conftest import for_builds

ROOT = Path(__file__).parents[2]

# Who must stop each bad release, and what the reason must say.
STOPPED = {
    "arm64": ("build", "linux/arm64"),
    "critical-finding": ("scan", "CVE-2024-3094"),
    "permuted": ("publish", "accuracy"),
    "crashes": ("rollout", "KeyError: 'FEATURE_STORE_URL'"),
    "never-healthy": ("rollout", "rollout.start_deadline_s"),
    "wrong-answers": ("golden", "label"),
    "slow": ("load", "slower than what serves"),
}
IN_PRODUCTION = "no-batches"


def tell(directory: Path, *options: str) -> dict[str, Any]:
    """Run `python -m demo` to its end, which must be exit code 0; its report."""
    demo = start(directory, *options)
    told, _ = demo.communicate()
    assert 0 == demo.returncode, told
    return dict(json.loads((directory / "build/demo/report.json").read_text()))


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ONNXSHIP_"))}
    environment = kept | for_builds() | {"HOME": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "demo", *options]
    return subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def running(directory: Path) -> str:
    """The command lines of all processes that name the directory."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in listed.splitlines() if str(directory) in line)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.2)


def assert_bad_releases_never_reached_users(report: dict[str, Any]) -> None:
    """Each refused by the gate that is there for it; the one that failed in production taken back, and counted."""
    releases = {release["id"]: release for release in report["releases"]}
    refused = {name: releases[name] for name in STOPPED}
    assert {name: ("refused", 3, 0, gate) for name, (gate, _) in STOPPED.items()} == {
        name: (told["outcome"], told["exit_code"], told["production_requests"], told["gate"])
        for name, told in refused.items()
    }
    assert [] == [name for name, (_, words) in STOPPED.items() if words not in refused[name]["reason"]]
    failed = releases[IN_PRODUCTION]
    assert ("rolled-back", 4) == (failed["outcome"], failed["exit_code"])
    assert 0 < failed["failed_requests"] == report["traffic"]["suffered"]
    assert 0 == report["traffic"]["failed"]
