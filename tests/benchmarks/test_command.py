"""What `make bench BENCH="..."` says to a wrong call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_machine_without_wrk_is_told_how_to_get_it(tmp_path: Path) -> None:
    """The load generator is the one thing that no lock file can bring."""
    ended = bench("--only", "mlp-1", PATH=str(tmp_path))

    assert 2 == ended.returncode
    assert "wrk, the load generator, is not installed.\nFix: on Debian and Ubuntu: apt-get install wrk" in ended.stdout
