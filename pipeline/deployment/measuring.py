"""What a gate needs measured, as a job for one of the programs of `loadtests`; and the job done on this machine.

The programs run as processes of their own, here or in the VPC: Locust's gevent patches Python's sockets when it is
imported. What they write is judged by whoever asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.aws.models import PinnedModel
from pipeline.errors import AwsError
from pipeline.results import Target

STOP_S = 5
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Job:
    """A program, its options (`words`), the target whose secret headers it sends, and its input files.

    The program is given `--manifest` and `--golden` of the model, `--headers`, `--output`, and each of `files` as
    `--<name>`. The secrets are never among the words: process lists show those to everybody.
    """

    program: str
    words: tuple[str, ...]
    target: Target
    model: PinnedModel
    timeout_s: float
    files: Mapping[str, bytes] = field(default_factory=dict)


Measure = Callable[[Job], dict[str, Any]]


def measure_here(job: Job) -> dict[str, Any]:
    """What the program measured from this machine. An interruption ends it at once.

    Raises AwsError with the program's own words when it measured nothing.
    """
    with tempfile.TemporaryDirectory(prefix="onnxship-gate-") as scratch:  # a folder of our own, mode 0700
        folder = Path(scratch)
        inputs = {
            "manifest": job.model.manifest_json,
            "golden": job.model.golden_npz,
            "headers": json.dumps(dict(job.target.headers)).encode(),
            **job.files,
        }
        for name, content in inputs.items():
            (folder / name).write_bytes(content)
        _run(command(job, folder, tuple(inputs)), job.program, job.timeout_s)
        return dict(json.loads((folder / "output").read_text()))


def command(job: Job, folder: Path, files: tuple[str, ...]) -> list[str]:
    """The command line of the job's process."""
    given = [word for name in (*files, "output") for word in (f"--{name}", str(folder / name))]
    return [sys.executable, "-m", job.program, *job.words, *given]


def _run(words: list[str], program: str, timeout_s: float) -> None:
    paths = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    child = subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,  # a Ctrl-C reaches the pipeline alone, which ends the program itself
    )  # fmt: skip
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise _broken(program, f"did not end within {timeout_s:.0f} s", "") from None
    finally:
        _end(child)
    if child.returncode != 0:
        raise _broken(program, f"ended with exit code {child.returncode}", said)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _broken(program: str, how: str, said: str) -> AwsError:
    return AwsError(
        f"`python -m {program}` {how}; nothing was measured.",
        "install it with `pip install onnxship[loadtest]`, or run `onnxship loadtest` alone to see why",
        details=tuple(said.strip().splitlines()[-8:]),
    )
