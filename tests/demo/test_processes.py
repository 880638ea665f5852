"""A demo leaves no process, however it ended, and there is one demo at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo import processes

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def sleeper() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_children_of_a_killed_demo_are_ended(tmp_path: Path) -> None:
    """They were written down; the next demo ends those that still run."""
    child = sleeper()
    processes.note(tmp_path / "children", child.pid)

    assert [child.pid] == processes.end_left_over(tmp_path / "children")
    assert child.wait(5) < 0


def test_another_process_with_the_same_number_is_left_alone(tmp_path: Path) -> None:
    """A number may be given again; the time of the start tells them apart."""
    child = sleeper()
    (tmp_path / "children").write_text(f"{child.pid} Thu Jan  1 00:00:00 1970\n")

    assert [] == processes.end_left_over(tmp_path / "children")
    assert child.poll() is None
    child.kill()
    child.wait()


def test_nothing_noted_is_nothing_to_end(tmp_path: Path) -> None:
    """The first demo in a directory."""
    assert [] == processes.end_left_over(tmp_path / "children")


def test_a_child_that_does_not_listen_is_killed() -> None:
    """One that ends when it is asked to ends by itself."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    for code, number in ((SLEEPER[2], signal.SIGTERM), (deaf, signal.SIGKILL)):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()

        processes.end(child, patience_s=0.5 if code is deaf else 20)

        assert -number == child.returncode


def test_a_second_demo_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    """Two would empty each other's directory; afterwards the next one may begin."""
    with processes.only_one(tmp_path / "demo"), pytest.raises(processes.Busy, match="already"):
        processes.only_one(tmp_path / "demo").__enter__()
    with processes.only_one(tmp_path / "demo"):
        pass
