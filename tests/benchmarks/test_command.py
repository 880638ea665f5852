"""What `make bench BENCH="..."` says to a wrong call."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import housekeeping

ROOT = Path(__file__).parents[2]


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "bert"], "no row begins with bert; the rows are mlp-32, mlp-1, resnet-binary"),
        (["--rounds", "0"], "0 is not at least 1"),
        (["--readme", "--only", "mlp"], "--readme writes whole tables: leave --only out"),
    ],
    ids=["unknown row", "no rounds", "part of a table"],
)
def test_a_wrong_call_is_told_what_is_right(arguments: list[str], told: str) -> None:
    """Exit status 2, before anything is measured."""
    ended = bench(*arguments)

    assert (2, True) == (ended.returncode, told in ended.stderr), ended.stderr


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_benchmark_that_is_ended_ends_its_servers(tmp_path: Path) -> None:
    """SIGTERM, as a CI job gets it: exit status 130, and nothing runs on, frozen or not."""
    script = (
        "import sys; from pathlib import Path; import benchmarks.__main__ as m; m.DIRECTORY = Path(sys.argv.pop(1))"
    )
    command = [
        sys.executable,
        "-c",
        f"{script}; sys.exit(m.main())",
        str(tmp_path),
        "--only",
        "mlp-1",
        "--patience",
        "0",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    sessions = tmp_path / "sessions"
    while not (sessions.exists() and sessions.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    session = int(sessions.read_text().split()[0])

    process.terminate()

    assert 130 == process.wait(30)
    assert [] == housekeeping.members(session)


def test_a_machine_without_wrk_is_told_how_to_get_it(tmp_path: Path) -> None:
    """The load generator is the one thing that no lock file can bring."""
    ended = bench("--only", "mlp-1", PATH=str(tmp_path))

    assert 2 == ended.returncode
    assert "wrk, the load generator, is not installed.\nFix: on Debian and Ubuntu: apt-get install wrk" in ended.stdout
