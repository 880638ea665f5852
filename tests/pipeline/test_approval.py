"""`approval: true`: a person at a terminal types the environment's name; elsewhere `--yes` stands for them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from types import SimpleNamespace as Of
from pipeline.cli.options import confirm
from pipeline.errors import UsageError
config = Of(environment_name="production", environment=Of(approval=sys.argv[1] == "approval"))
run = Of(config=config, service="digits", aws=Of(account="111122223333"))
try:
    confirm(run, "Ship", "--yes" in sys.argv)
    print("goes on")
except UsageError as error:
    print(error.what)
"""


def at_a_terminal(typed: str, *words: str) -> str:
    """What the command ends with when a person types that."""
    person, terminal = pty.openpty()
    os.write(person, typed.encode() + b"\n")
    try:
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words], stdin=terminal, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    finally:
        os.close(person)
        os.close(terminal)
    return ended.stdout.strip() or ended.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("typed", "words", "ends"),
    [
        ("production", ["approval"], "goes on"),
        ("y", ["approval"], "`production` was not typed; nothing was changed."),
        ("", ["approval"], "`production` was not typed; nothing was changed."),
        ("y", ["none"], "goes on"),
        ("", ["approval", "--yes"], "goes on"),
    ],
)
def test_an_approval_is_the_environment_s_name(typed: str, words: list[str], ends: str) -> None:
    """A yes out of habit is none; `--yes` asks nobody."""
    assert ends == at_a_terminal(typed, *words)


def test_without_a_terminal_nothing_is_approved() -> None:
    """In CI `--yes` is needed, approval or not."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "approval"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    assert "There is no terminal to ask on.\n" == ended.stdout
