"""The users are a process of their own, and never outlive the story that started them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from demo import processes

PARENT = """
import subprocess, sys, time
users = subprocess.Popen([sys.executable, "-m", "demo.traffic", *sys.argv[1:]], stdin=subprocess.PIPE)
print(users.pid, flush=True)
time.sleep(60)
"""
NOBODY_THERE = "http://127.0.0.1:1"


def test_users_end_with_a_story_that_was_killed(tmp_path: Path) -> None:
    """They send until the pipe that the story holds is closed; SIGKILL closes it too. What they saw is on disk."""
    np.savez(tmp_path / "expected.npz", X=np.eye(2))
    seen = tmp_path / "requests.jsonl"
    words = [sys.executable, "-c", PARENT, NOBODY_THERE, str(tmp_path / "expected.npz"), str(seen)]
    story = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert story.stdout is not None
    users = int(story.stdout.readline())
    wait_for(lambda: seen.exists() and seen.stat().st_size > 0)

    story.kill()
    story.wait()

    wait_for(lambda: not processes.started_at(users))
    first = json.loads(seen.read_text().splitlines()[0])
    assert ("", True) == (first["release"], first["failed"].startswith("ClientConnectorError"))


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
