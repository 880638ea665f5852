"""The users: a process that sends requests all the time, and what each release is expected to answer them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from demo import ledger, processes
from demo.commands import StoryBroke
from demo.models import Trained

FIRST_ANSWER_TIMEOUT_S = 20
LAST_ANSWER_TIMEOUT_S = 15


class Users:
    """Requests from `start` to `stop`; `directory` keeps what they sent and saw."""

    def __init__(self, directory: Path, children: Path) -> None:
        self._directory, self._children = directory, children
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, url: str, served: dict[str, Trained]) -> None:
        """Send requests to `url`; `served` is the model of each release that may answer. Waits for the first answer."""
        with np.load(self._directory / "models" / "golden.npz") as golden:
            expected: dict[str, Any] = {"X": golden["X"]}
        for release, model in served.items():
            expected |= {f"label:{release}": model.labels, f"confidence:{release}": model.confidences}
        np.savez(self._directory / "expected.npz", **expected)
        # The pipe ends with this process, however it ends, and the users with the pipe.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.traffic", url, self._directory / "expected.npz", self._file],
            stdin=subprocess.PIPE,
        )
        processes.note(self._children, self._process.pid)
        deadline = time.monotonic() + FIRST_ANSWER_TIMEOUT_S
        while not (self._file.exists() and self._file.stat().st_size):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StoryBroke("the users got no first answer")
            time.sleep(0.1)

    def stop(self) -> None:
        """Let them wait for their last answers, and end."""
        if self._process and self._process.stdin and self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait(LAST_ANSWER_TIMEOUT_S)

    def requests(self) -> list[ledger.Request]:
        """Every request that was answered, or failed, so far."""
        return ledger.read(self._file) if self._file.exists() else []

    @property
    def _file(self) -> Path:
        return self._directory / "requests.jsonl"
