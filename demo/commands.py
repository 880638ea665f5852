"""Commands as the story types them: shown with why, run, and their progress and errors passed on as they come."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from demo import processes

SCRIPTS_ONLY = ("--output", "json")
PROGRESS = re.compile(r"^ *(\d+\.\d) s  (.*)$")
STAGE = re.compile(r"^(?:PENDING|IN_PROGRESS|ROLLBACK_\w+|STOP\w*)  ([A-Z_]+)$")
PREPARING = re.compile(r"^([a-z]+) \.\.\.$")


@dataclass
class Step:
    """One command of the story and how it ended; times in seconds, counted from the story's beginning."""

    name: str
    command: str
    why: str
    exit_code: int
    expected_exit_code: int
    started_s: float
    duration_s: float

    @property
    def ok(self) -> bool:
        return self.exit_code == self.expected_exit_code


@dataclass
class Ended:
    """What a command said: its result, its progress with the seconds since its beginning, and its error."""

    step: Step
    started_at: datetime
    result: dict[str, Any]
    progress: list[tuple[float, str]]
    error: list[str]

    @property
    def durations_s(self) -> dict[str, float]:
        """Seconds by stage of a release."""
        begun = [(at, found[1]) for at, line in self.progress if (found := PREPARING.match(line))]
        return {stage: round(end - at, 2) for at, stage, end in self._until(begun)}

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The stages of its deployment, as far as it came, in the form of a release's result."""
        seen = [(at, found[1]) for at, line in self.progress if (found := STAGE.match(line))]
        began = self.started_at.timestamp()
        return [
            {
                "stage": stage,
                "started_at": datetime.fromtimestamp(began + at, UTC).isoformat(),
                "duration_s": round(end - at, 3),
            }
            for at, stage, end in self._until(seen)
        ]

    def _until(self, begun: list[tuple[float, str]]) -> list[tuple[float, str, float]]:
        """Each with its end: the next one's beginning, or the command's end."""
        ends = [*(at for at, _ in begun), self.step.duration_s][1:]
        return [(at, name, end) for (at, name), end in zip(begun, ends, strict=True)] if begun else []


class StoryBroke(Exception):
    """A step did not end as told."""


@dataclass
class Commands:
    """Runs `onnxship` in `directory`; `children` is where running processes are written down."""

    directory: Path
    console: Console
    children: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    steps: list[Step] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def now_s(self) -> float:
        """Seconds since the story began."""
        return round(time.time() - self.began, 2)

    def tell(self, command: str, why: str) -> None:
        """Show what is typed, and why."""
        self.console.print()
        self.console.print(f"$ {command}", style="bold cyan", markup=False, highlight=False)
        if why:
            self.console.print(Padding(Text(" ".join(why.split()), style="italic"), (0, 0, 0, 2)))

    def run(self, name: str, words: list[str], why: str, expected_exit: int = 0) -> Ended:
        """Tell the command, run it, note how it ended. Raises StoryBroke when it did not end as told."""
        shown = "onnxship " + " ".join(word for word in words if word not in SCRIPTS_ONLY)
        self.tell(shown, why)
        started_s, started_at = self.now_s, datetime.now(UTC)
        exit_code, stdout, progress, error = self._run(words)
        step = Step(name, shown, why.strip(), exit_code, expected_exit, started_s, round(self.now_s - started_s, 1))
        self.steps.append(step)
        as_json = "json" in words
        if stdout.strip() and not as_json:
            self.console.print(stdout.rstrip(), highlight=False, markup=False)
        self.console.print(f"  exit {exit_code} after {step.duration_s} s", style="green" if step.ok else "bold red")
        if not step.ok:
            raise StoryBroke(f"`{shown}` ended with exit code {exit_code}, not {expected_exit}")
        return Ended(step, started_at, json.loads(stdout) if as_json and stdout.strip() else {}, progress, error)

    def do(self, name: str, command: str, why: str, work: Callable[[], Any]) -> Any:
        """What is no command of `onnxship`, noted like one; told only if something is typed."""
        if command:
            self.tell(command, why)
        started_s = self.now_s
        result = work()
        self.steps.append(Step(name, command, why.strip(), 0, 0, started_s, round(self.now_s - started_s, 1)))
        return result

    def quietly(self, *words: str) -> str:
        """The standard output of a command that the story does not tell."""
        command = [sys.executable, "-m", "pipeline", *words]
        ended = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise StoryBroke(f"`onnxship {' '.join(words)}` ended with exit code {ended.returncode}: {ended.stderr}")
        return ended.stdout

    def _run(self, words: list[str]) -> tuple[int, str, list[tuple[float, str]], list[str]]:
        with (self.children.parent / "stdout").open("w+") as stdout:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *words],
                cwd=self.directory, env=self.environment, stdout=stdout, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            processes.note(self.children, child.pid)
            assert child.stderr is not None
            try:
                progress, error = self._pass_on(child.stderr)
                exit_code = child.wait()
            except BaseException:  # a Ctrl-C: the command rolls back what it had begun
                processes.end(child)
                raise
            stdout.seek(0)
            return exit_code, stdout.read(), progress, error

    def _pass_on(self, said: Any) -> tuple[list[tuple[float, str]], list[str]]:
        """Show progress on a line each, an error whole and in red."""
        progress: list[tuple[float, str]] = []
        error: list[str] = []
        for line in map(str.rstrip, said):
            if error or line.startswith("Error: "):
                error.append(line)
                indent = 2 + len(line) - len(line.lstrip())
                self.console.print(Padding(Text(line.lstrip(), style="red"), (0, 0, 0, indent)))
                continue
            if found := PROGRESS.match(line):
                progress.append((float(found[1]), found[2]))
            self.console.print(Text(line, style="dim"), no_wrap=True, overflow="ellipsis")
        return progress, error
