"""Signals: the first one interrupts, those that follow leave the clean-up alone, and each reaches a child once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A command that clears up after itself, and says each thing that happens to it.
CHILD = """
import sys, time
from pipeline.cli.interruption import raise_once
raise_once()
try:
    print("working", flush=True)
    time.sleep(60)
except KeyboardInterrupt as interruption:
    print(type(interruption).__name__, flush=True)
    sys.stdin.readline()
    print("cleared up", flush=True)
    sys.exit(130)
"""
PARENT = f"""
import os, sys
from pipeline.cli.interruption import raise_once, run_to_end
raise_once()
code = run_to_end([sys.executable, "-c", {CHILD!r}], dict(os.environ))
print("code", code, flush=True)
"""


def begin(script: str) -> subprocess.Popen[str]:
    """Start Python in a process group of its own, as a shell does."""
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", script]
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_ctrl_c_leaves_the_clean_up_alone() -> None:
    """It is told that things are being cleared up, and nothing else happens."""
    process = begin(CHILD)
    assert "working" == next_line(process)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" == next_line(process)

    process.send_signal(signal.SIGINT)
    assert "Clearing up" in process.stderr.readline()
    stdout, _ = process.communicate("\n", timeout=30)

    assert (130, "cleared up\n") == (process.returncode, stdout)


def test_a_clean_up_that_hangs_can_be_broken_off() -> None:
    """The fifth Ctrl-C raises again."""
    process = begin(CHILD)
    assert "working" == next_line(process)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" == next_line(process)

    for left in (3, 2, 1):
        process.send_signal(signal.SIGINT)
        assert f"{left} more times" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)

    assert "" == stdout
    assert process.returncode != 0


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")]
)  # fmt: skip
def test_a_signal_to_the_whole_group_reaches_the_child_once(number: signal.Signals, raised: str) -> None:
    """As a terminal sends it, twice: the child is interrupted by the parent alone, and its end is waited for."""
    process = begin(PARENT)
    assert "working" == next_line(process)
    os.killpg(process.pid, number)
    assert raised == next_line(process)

    os.killpg(process.pid, number)
    assert "Clearing up" in process.stderr.readline()
    stdout, stderr = process.communicate("\n", timeout=30)

    assert "cleared up\ncode 130\n" == stdout
    assert "" == stderr


def test_a_child_ended_by_a_signal_gives_the_code_that_shells_give() -> None:
    """128 + SIGKILL, never a negative number."""
    script = "import os, sys; from pipeline.cli.interruption import run_to_end\n"
    script += "print(run_to_end(['sh', '-c', 'kill -9 $$'], dict(os.environ)))"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "137\n" == ended.stdout


def test_a_signal_while_a_process_is_started_waits_until_it_is_known() -> None:
    """`held_back` delivers it at the end of the block."""
    script = "import os, signal\nfrom pipeline.cli.interruption import held_back, raise_once\nraise_once()\n"
    script += "try:\n  with held_back():\n    os.kill(os.getpid(), signal.SIGINT)\n    print('known')\n"
    script += "except KeyboardInterrupt: print('interrupted')"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "known\ninterrupted\n" == ended.stdout


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """`nohup onnxship ship &` outlives its terminal."""
    script = "import os, signal\nfrom pipeline.cli.interruption import raise_once\nraise_once()\n"
    script += "os.kill(os.getpid(), signal.SIGHUP); print('still here')"

    ended = subprocess.run(
        ["nohup", sys.executable, "-c", script], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )

    assert "still here\n" == ended.stdout


def test_ctrl_c_while_the_command_is_imported_shows_no_traceback(tmp_path: Path) -> None:
    """The heaviest import is interrupted: exit 130 and one word."""
    (tmp_path / "pydantic.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "status"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (130, "Interrupted.\n") == (ended.returncode, ended.stderr)


def test_a_reader_that_has_gone_ends_a_command_quietly(tmp_path: Path) -> None:
    """Output into a pipe that nobody reads: exit 141 as for any tool, and no word."""
    reader, writer = os.pipe()
    os.close(reader)

    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "rehearse", "env", "--unset"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(writer)

    assert (141, "") == (ended.returncode, ended.stderr)
