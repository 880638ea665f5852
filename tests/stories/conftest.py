"""A user's project, the commands they type, and the local AWS they act in; everything is a real process."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from pipeline.building import docker
from pipeline.errors import ConfigError

ENDED_TIMEOUT_S = 20
DOCKER_BASE = os.environ.get("ONNXSHIP_TEST_BASE", "python:3.11-slim-bookworm")


@dataclass
class Ended:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout))


@dataclass
class Project:
    """A directory with a model of the user's own, and what they type in it."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def onnxship(self, *words: str, **more: str) -> Ended:
        """Run one command to its end."""
        ended = subprocess.run(
            self._command(words),
            cwd=self.directory,
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start one command; its progress can be read from `stderr`."""
        return subprocess.Popen(
            self._command(words),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def enter_rehearsal(self) -> None:
        """What `eval "$(onnxship rehearse env)"` does to a shell."""
        script = f'eval "$({sys.executable} -m pipeline rehearse env)" && env -0'
        ended = subprocess.run(
            ["bash", "-c", script], cwd=self.directory, env=self.environment, capture_output=True, check=True
        )
        entries = (entry.partition(b"=") for entry in ended.stdout.split(b"\0") if entry)
        self.environment = {name.decode(): value.decode() for name, _, value in entries}

    def train(self, c: float) -> None:
        """Fit a classifier on iris and put it in place as model.onnx."""
        features, labels = load_iris(return_X_y=True)
        classifier = LogisticRegression(C=c, max_iter=500).fit(features.astype(np.float32), labels)
        exported = to_onnx(classifier, features[:1].astype(np.float32), options={id(classifier): {"zipmap": False}})
        (self.directory / "model.onnx").write_bytes(exported.SerializeToString())

    def commit(self, message: str, **environment: str) -> None:
        """All files as they are; `environment` may hold git's own variables, such as a date."""
        who = ("-c", "user.name=User", "-c", "user.email=user@example.com")
        for words in (("add", "--all"), ("commit", "--quiet", "--allow-empty", "--message", message)):
            subprocess.run(["git", *who, *words], cwd=self.directory, env=os.environ | environment, check=True)

    def quicken(self) -> None:
        """A bake and a load test that fit a test: one AWS minute, 4 and 3 seconds."""
        path = self.directory / "onnxship.yaml"
        text = path.read_text().replace("bake_minutes: 10", "bake_minutes: 1")
        text = text.replace("{rps: 20, duration_s: 10, max_latency_ratio", "{rps: 30, duration_s: 3, max_latency_ratio")
        path.write_text(text.replace("{rps: 20, duration_s: 15, min_requests: 100, p99_ms: 500", LOAD))

    def tasks(self) -> list[int]:
        """Process ids of tasks that the local AWS of this project runs or left behind."""
        files = (self.directory / ".onnxship/rehearsal/tasks").rglob("*.pid")
        pids = [int(line.split()[0]) for file in files for line in file.read_text().splitlines()]
        return [pid for pid in pids if _is_alive(pid)]

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "pipeline", *words]


LOAD = "{rps: 20, duration_s: 4, min_requests: 40, p99_ms: 2000"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An iris classifier under git, with the configuration that `init` wrote."""
    directory = tmp_path_factory.mktemp("iris")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ONNXSHIP_"))}
    made = Project(directory, kept | {"HOME": str(directory), "CI": ""})
    made.train(c=1.0)
    features, labels = load_iris(return_X_y=True)
    rows = [",".join([*(f"{x:g}" for x in row), str(label)]) for row, label in zip(features, labels, strict=True)]
    (directory / "iris.csv").write_text("\n".join(["a,b,c,d,species", *rows]) + "\n")
    ended = made.onnxship("init", "--model", "model.onnx", "--data", "iris.csv", "--name", "iris")
    assert 0 == ended.exit_code, ended.stderr
    made.quicken()
    subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)
    made.commit("First model")
    yield made
    made.onnxship("rehearse", "down")


@pytest.fixture(scope="module")
def rehearsal(project: Project) -> Project:
    """The project with its local AWS up, bootstrapped, and entered."""
    ended = project.onnxship("rehearse", "up")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    ended = project.onnxship("bootstrap")
    assert 0 == ended.exit_code, ended.stderr
    return project


@pytest.fixture(scope="session")
def has_docker() -> None:
    """A Docker that builds and has the base image; without it the stories of containers are skipped."""
    try:
        docker.require_docker()
    except ConfigError as error:
        pytest.skip(f"{error.what} {error.remedy}")
    require_image(DOCKER_BASE, "; name another in ONNXSHIP_TEST_BASE")


def for_builds() -> dict[str, str]:
    """What an environment must have for Docker to build: the way to a package index, and where its plugins are."""
    given = {name: value for name, value in os.environ.items() if name.startswith("ONNXSHIP_BUILD_")}
    return given | {"DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG") or str(Path("~/.docker").expanduser())}


def require_image(name: str, otherwise: str = "") -> None:
    """Skip the test unless Docker has this image, or can pull it."""
    for words in (("image", "inspect", name), ("pull", "--quiet", name)):
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0:
            return
    pytest.skip(f"Docker has no {name} and cannot pull it{otherwise}")


def predict(url: str) -> tuple[str, dict[str, Any]]:
    """One request to production: the release that answered, and its answer."""
    request = urllib.request.Request(f"{url}/predict", data=json.dumps({"input": [5.1, 3.5, 1.4, 0.2]}).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.headers["X-Onnxship-Release"], json.loads(answer.read())


def wait_for_line(process: subprocess.Popen[str], text: str, timeout_s: float = 90) -> None:
    """Read the command's progress until a line holds `text`."""
    deadline = time.monotonic() + timeout_s
    seen = []
    assert process.stderr is not None
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
        assert time.monotonic() < deadline, f"no line with {text!r} within {timeout_s} s"
    raise AssertionError(f"the command ended without a line with {text!r}:\n" + "".join(seen))


def interrupt(process: subprocess.Popen[str]) -> Ended:
    """Ctrl-C, and the command's end."""
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=90)
    return Ended(process.returncode, stdout, stderr)


def finish(process: subprocess.Popen[str]) -> Ended:
    """The command's end, awaited."""
    stdout, stderr = process.communicate(timeout=90)
    return Ended(process.returncode, stdout, stderr)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
