"""What names a running rehearsal: its process, told from a later one of the same number, and its state file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rehearsal import processes, state


def test_a_process_is_its_pid_and_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to tell a start (/proc and ps) know a living process and say None once it has ended."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        for proc in (processes.PROC, Path("/nonexistent")):
            monkeypatch.setattr(processes, "PROC", proc)
            start = processes.started_at(child.pid)
            assert start
            assert processes.is_alive(child.pid, start)
            assert not processes.is_alive(child.pid, "long ago")
    finally:
        child.kill()
        child.wait()
    for proc in (Path("/proc"), Path("/nonexistent")):
        monkeypatch.setattr(processes, "PROC", proc)
        assert processes.started_at(child.pid) is None


def test_the_state_file_is_whole_or_absent(tmp_path: Path) -> None:
    """Writing replaces the file in one step and leaves no other file behind."""
    running = state.Running(os.getpid(), "x", "http://127.0.0.1:1", "127.0.0.1:2", "1", "r", 2.0, "process", "log")
    for _ in range(2):
        state.write(tmp_path, running)
    assert [path.name for path in tmp_path.iterdir()] == [state.FILE]
    assert state.read(tmp_path) == running
    assert state.live(tmp_path) is None
