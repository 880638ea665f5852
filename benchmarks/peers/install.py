"""An environment of its own for each peer, under build/bench/peers, from the hash-locked file beside this one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.errors import PeerDoesNotRun

HERE = Path(__file__).parent
# The stub of Triton's python backend embeds a Python 3.11 that is older than 3.11.7: Debian 12's own fits.
PYTHONS = {"litserve": sys.executable, "mlserver": sys.executable, "triton": "/usr/bin/python3"}
SECONDS = 900


def ensure(peer: str, directory: Path) -> Path:
    """The peer's Python, installed unless it is there with this lock. Raises PeerDoesNotRun with pip's last lines."""
    lock = HERE / f"{peer}.lock"
    environment = directory / "peers" / peer
    mark, digest = environment / "lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
    python = environment / "bin" / "python"
    if mark.exists() and mark.read_text() == digest:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    _run([PYTHONS[peer], "-m", "venv", "--without-pip", str(environment)])
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    _run([*pip, "install", "--quiet", "--require-hashes", "--requirement", str(lock)])
    if peer == "triton":
        _place_stub(environment)
    mark.write_text(digest)
    return python


def triton_home(python: Path) -> Path:
    """Where the wheel keeps Triton: bin/tritonserver, backends/. Raises PeerDoesNotRun when it is not there."""
    found = sorted(python.parents[1].glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not found:
        raise PeerDoesNotRun("the nvidia-pytriton wheel for this Python holds no Triton")
    return found[0]


def _place_stub(environment: Path) -> None:
    """The stub for this Python stands where the python backend looks for it, as pytriton itself does it."""
    home = triton_home(environment / "bin" / "python")
    version = home.parents[2].name.removeprefix("python")
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise PeerDoesNotRun(f"Triton's python backend has no stub for Python {version}")
    shutil.copy(stub, home / "backends" / "python")


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerDoesNotRun(f"cannot be installed: {error}") from error
    if ended.returncode:
        raise PeerDoesNotRun(f"cannot be installed: {ended.stderr.strip()[-300:]}")
