"""The tutorial, typed as it stands: its files written, its commands run in one shell, its outputs compared."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(600)]
TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from run to run: times, digests, ports, names that AWS makes up.
VARIES = re.compile(r"[0-9a-f]{7,}\b|\d+(?:\.\d+)?")
END_OF_STEP = "end-of-step"


@dataclass
class Step:
    """One block of shell, the files that stand before it, and the output that the tutorial shows after it."""

    typed: str
    files: dict[str, str]
    shown: list[str]


def steps(text: str) -> list[Step]:
    """The tutorial's blocks in their order: ```python NAME writes a file, ```sh is typed, ```text is its output."""
    found: list[Step] = []
    files: dict[str, str] = {}
    for language, name, body in BLOCK.findall(text):
        if name:
            files[name] = body
        elif language == "sh":
            found.append(Step(body, files, []))
            files = {}
        elif language == "text":
            found[-1].shown += [line for line in body.splitlines() if line.strip() not in ("", "...")]
    return found


def comparable(line: str) -> str:
    """A line without what differs from run to run, and without its columns' widths."""
    return " ".join(VARIES.sub("N", line).split())


class Shell:
    """A bash that goes on from step to step, as a reader's does."""

    def __init__(self, directory: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ONNXSHIP_", "GIT_"))}
        who = {
            f"GIT_{role}_{what}": "user@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.directory = directory
        self._bash = subprocess.Popen(
            ["bash"], cwd=directory, env=kept | who | {"PATH": path, "HOME": str(directory), "CI": ""}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, words: str) -> tuple[list[str], int]:
        """Output and exit code of what is typed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{words}\necho {END_OF_STEP} $? $PWD\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            head, found, tail = line.partition(END_OF_STEP)
            if found:
                code, where = tail.split()
                self.directory = Path(where)
                return [*lines, *([head] if head else [])], int(code)
            lines.append(line.rstrip("\n"))
        raise AssertionError("the shell has ended")

    def end(self) -> None:
        self.type("onnxship rehearse down")
        self._bash.communicate("exit\n")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def test_the_tutorial_works_as_it_stands(shell: Shell) -> None:
    """Every step ends well, and every line of output that the tutorial shows is there."""
    for step in steps(TUTORIAL.read_text()):
        for name, body in step.files.items():
            (shell.directory / name).write_text(body)
        lines, code = shell.type(step.typed)
        print("\n".join([f"$ {step.typed}", *lines]))  # noqa: T201 - shown by pytest when the step fails
        found = {comparable(line) for line in lines}

        assert 0 == code, step.typed
        assert [] == [line for line in step.shown if comparable(line) not in found]


def test_what_is_not_there_is_missed() -> None:
    """The comparison can fail: numbers and digests may differ, words may not."""
    (step,) = steps("```python a.py\nx\n```\n```sh\nls\n```\n```text\n1.5 s  pushed 0123abcdef\n...\nrefused\n```\n")

    assert ("ls\n", {"a.py": "x\n"}) == (step.typed, step.files)
    assert ["N s pushed N", "refused"] == [comparable(line) for line in step.shown]
