"""A virtual environment for each client, made on demand from its lock and kept in build/test-clients.

They cannot share one: protobuf refuses a second `inference.ServerLiveRequest` in a process, and what Triton's client
pins (greenlet, ml-dtypes) is older than what the project has.
"""

import fcntl
import hashlib
import subprocess
import venv
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KEPT = HERE.parents[2] / "build" / "test-clients"
# pip has no exit status for it, only this warning, once for each attempt.
UNREACHABLE = "connection broken by"


def client_python(name: str) -> Path:
    """The interpreter of the environment for `<name>.lock`. Skips the test if the package index cannot be reached."""
    lock = HERE / f"{name}.lock"
    directory = KEPT / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)  # tests run in several processes
        if not (directory / "made").exists():
            _make(directory, lock)
    return directory / "bin" / "python"


def run_client(name: str, program: str, *arguments: str, timeout_s: float = 300) -> str:
    """What `program` prints, run in the environment of client `name`."""
    command = [str(client_python(name)), str(HERE / program), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return ended.stdout


def _make(directory: Path, lock: Path) -> None:
    venv.create(directory, with_pip=True, clear=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command = [*pip, "--retries", "2", "--no-compile", "--require-hashes", "--requirement", str(lock)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode and UNREACHABLE in ended.stderr:
        pytest.skip(f"the package index cannot be reached, so {lock.name} cannot be installed")
    assert 0 == ended.returncode, ended.stderr
    (directory / "made").touch()
