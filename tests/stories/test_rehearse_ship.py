"""`onnxship rehearse ship` in one's own shell: interrupted twice, done again, and looked at."""

import os
import signal
import subprocess
import sys

import pytest

from tests.stories.conftest import Project, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(240)]


def interrupt_twice(project: Project, line: str) -> tuple[int, str]:
    """`rehearse ship` in a process group of its own, and two quick Ctrl-C as a terminal sends them after `line`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "rehearse", "ship", "--release", "v1"],
        cwd=project.directory, env=project.environment, process_group=0,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_line(process, line)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=90)
    return process.returncode, stderr


def test_two_quick_interruptions_leave_no_lock(project: Project) -> None:
    """The clean-up is not interrupted: exit 130, the lock is free at once, and what runs on is named."""
    exit_code, stderr = interrupt_twice(project, "foundation ...")

    assert 130 == exit_code, stderr
    assert 'In this shell first: eval "$(onnxship rehearse env)"' in stderr
    assert "`onnxship rehearse down` ends it" in stderr
    assert "Traceback" not in stderr
    lock = project.onnxship("rehearse", "run", "--", sys.executable, "-m", "pipeline", "lock", "status")
    assert ["no"] == [line.split()[1] for line in lock.stdout.splitlines() if line.startswith("held")]


def test_a_dirty_tree_can_be_rehearsed_in_ci(project: Project) -> None:
    """And the result is followed by what it cannot show."""
    (project.directory / "notes.txt").write_text("not committed")

    ended = project.onnxship("rehearse", "ship", "--release", "v1", CI="true")

    assert 0 == ended.exit_code, ended.stderr
    assert "What a rehearsal cannot show:\n  - IAM authorises nothing" in ended.stderr
    assert "cannot show" not in ended.stdout


def test_logs_end_quietly_with_their_reader(project: Project) -> None:
    """`onnxship logs` into a pipe that nobody reads any more, and a task that wrote nothing."""
    project.enter_rehearsal()
    script = f'{sys.executable} -m pipeline logs | true; echo "${{PIPESTATUS[0]}}"'
    piped = subprocess.run(
        ["bash", "-c", script], cwd=project.directory, env=project.environment, capture_output=True, text=True
    )
    none = project.onnxship("logs", "--task", "nope")

    assert "141" == piped.stdout.splitlines()[-1]
    assert "Error" not in piped.stderr
    assert (0, "") == (none.exit_code, none.stdout)
    assert "No lines of task nope" in none.stderr
