"""kill -9 at any moment, twice at once, side by side: nothing of a rehearsal is left, and the next one works."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.conftest import Project, predict

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(600)]
PROC = Path("/proc")
SEED = 20261121
MOMENTS = 12
SHIP_S = 18.0  # how long one `rehearse ship` takes, more or less: the moments are spread over it
LEFT_S = 20.0  # guardians give a task 3 s; a command that lost its AWS tries a few times more before it gives up
ONNXSHIP = (sys.executable, "-m", "pipeline")
WHO = (sys.executable, "-c", "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])")

if not PROC.is_dir():
    pytest.skip("what a process has open can be seen in /proc only", allow_module_level=True)


def words_of(pid: int) -> list[str]:
    """The command line of a process; empty when it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def processes_of(state_dir: Path) -> dict[int, str]:
    """Every process that names a state directory in its words, its environment or its place."""
    found = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            told = [(entry / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
            told.append(str((entry / "cwd").readlink()))
        except OSError:
            continue  # it has ended, or is about to
        if any(str(state_dir) in text for text in told):
            found[int(entry.name)] = told[0].replace("\0", " ").strip()
    return found


def supervisor_of(state_dir: Path) -> int | None:
    """The process that is the rehearsal, from its first moment on."""
    return next((pid for pid in processes_of(state_dir) if {"rehearsal", "up"} <= set(words_of(pid))), None)


def tasks_of(state_dir: Path) -> dict[str, tuple[int, int]]:
    """Guardian and process of every task, as the guardians wrote them down."""
    files = (state_dir / "tasks").glob("*/model.pid")
    lines = {file.parent.name: file.read_text().splitlines() for file in files}
    return {task: (int(two[0].split()[0]), int(two[1].split()[0])) for task, two in lines.items()}


def until(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def all_gone(state_dir: Path) -> None:
    """Wait until no process of it is left; says which one is, when one stays."""
    deadline = time.monotonic() + LEFT_S
    while left := processes_of(state_dir):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def moments(seed: int) -> list[float]:
    """One random moment in each of equal parts of a ship, in any order."""
    dice = random.Random(seed)
    part_s = SHIP_S / MOMENTS
    drawn = [round((number + dice.random()) * part_s, 2) for number in range(MOMENTS)]
    dice.shuffle(drawn)
    return drawn


@pytest.fixture(scope="module")
def state_dir(project: Project) -> Path:
    """Where the project's rehearsal keeps its files."""
    return project.directory / ".onnxship/rehearsal"


@pytest.fixture
def begin(project: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Commands of the project that do not outlive the test."""
    begun: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*ONNXSHIP, *words],
            cwd=project.directory,
            env=project.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_a_supervisor_killed_at_any_moment_leaves_nothing_and_the_next_ship_works(
    project: Project, state_dir: Path, begin: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A dozen random moments of `rehearse ship`, from the first import to the bake; then one that is left alone."""
    drawn = moments(SEED)
    with capsys.disabled():
        sys.stderr.write(f"\nseed {SEED}: the supervisor is killed after {drawn} s\n")
    codes = []
    for moment in drawn:
        ship = begin("rehearse", "ship", "--release", "v1")
        began = time.monotonic()
        supervisor = until(lambda: supervisor_of(state_dir))
        time.sleep(max(0.0, moment - (time.monotonic() - began)))
        os.kill(supervisor, signal.SIGKILL)
        all_gone(state_dir)
        codes.append(ship.wait(LEFT_S))

    ended = project.onnxship("rehearse", "ship", "--release", "v1", "--output", "json")

    assert 0 == ended.exit_code, ended.stderr
    assert set(codes) <= {0, 2, 5, 6}, f"a ship that loses its AWS says so: {codes}"
    assert "v1" == predict(ended.json["production_url"])[0]
    assert [] == [path.name for path in state_dir.iterdir() if ".new" in path.name]
    assert [] == list((state_dir / "images").glob("unpacking-*"))


@pytest.mark.parametrize("which", ["guardian", "process"])
def test_a_task_that_loses_its_guardian_or_its_process_is_replaced(
    project: Project, state_dir: Path, which: str
) -> None:
    """Nothing of the dead one is left, and as many tasks as before serve again."""
    before = tasks_of(state_dir)
    task, (guardian, process) = before.popitem()
    os.kill({"guardian": guardian, "process": process}[which], signal.SIGKILL)
    until(lambda: not words_of(guardian) and not words_of(process))
    until(lambda: task not in (now := tasks_of(state_dir)) and len(now) == len(before) + 1)

    def healthy() -> int:
        ended = project.onnxship("rehearse", "run", "--", *ONNXSHIP, "status", "--output", "json")
        groups = ended.json["target_groups"]
        assert isinstance(groups[0], dict), ended.stdout
        return sum(group["targets"].get("healthy", 0) for group in groups)

    until(lambda: healthy() == len(before) + 1)


def test_down_ends_it_all_and_may_be_said_twice(project: Project, state_dir: Path) -> None:
    """The first one ends every process, the second has nothing to do; both exit 0."""
    for _ in range(2):
        ended = project.onnxship("rehearse", "down")
        assert 0 == ended.exit_code, ended.stderr
        assert {} == processes_of(state_dir)
        assert not (state_dir / "rehearsal.json").exists()


def test_a_killed_command_leaves_a_rehearsal_that_can_be_used_or_ended(
    project: Project, state_dir: Path, begin: Callable[..., Any]
) -> None:
    """`rehearse up` killed while it waits: the rehearsal comes up all the same, is found, and `down` ends it."""
    for moment in (0.0, 0.5):
        command = begin("rehearse", "up")
        until(lambda: supervisor_of(state_dir))
        time.sleep(moment)
        command.kill()
        command.wait()
        until(lambda: (state_dir / "rehearsal.json").exists())
        second = project.onnxship("rehearse", "up")
        assert 2 == second.exit_code
        assert f"(pid {supervisor_of(state_dir)})" in second.stderr
        ended = project.onnxship("rehearse", "run", "--", *WHO)
        assert 0 == ended.exit_code, ended.stderr
        assert 0 == project.onnxship("rehearse", "down").exit_code
        all_gone(state_dir)


def test_of_two_commands_at_once_one_comes_up_and_the_other_names_it(
    project: Project, state_dir: Path, begin: Callable[..., Any]
) -> None:
    """The loser neither ends nor disturbs the winner: the ports in the overlay are those that the winner keeps."""
    pair = [begin("rehearse", "up"), begin("rehearse", "up")]

    assert [0, 2] == sorted(command.wait(120) for command in pair)

    state = json.loads((state_dir / "rehearsal.json").read_text())
    assert [state["pid"]] == [pid for pid in processes_of(state_dir) if {"rehearsal", "up"} <= set(words_of(pid))]
    assert 0 == project.onnxship("rehearse", "run", "--", *WHO).exit_code
    overlay = (state_dir / "overlay.yaml").read_text()
    assert all(f": {port}\n" in overlay for port in state["reserved_ports"])
    assert 0 == project.onnxship("rehearse", "down").exit_code
    all_gone(state_dir)
