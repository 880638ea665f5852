"""The story with `--engine docker`: the real image, built, pushed, pulled by digest and run as on Fargate.

Skipped where no Docker answers, it cannot build, or the base image cannot be had; ONNXSHIP_TEST_BASE names one that
Docker has, and the variables ONNXSHIP_BUILD_* say how a build reaches a package index.
"""

import subprocess
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.stories.conftest import DOCKER_BASE, Project, for_builds, predict

CRASHES = """
def startup():
    raise RuntimeError("there is no vocabulary.txt")

def postprocess(outputs):
    return {}
"""
HOARDS = """
HOARD = []

def startup():
    while True:
        HOARD.append(bytearray(b"x") * (1 << 24))

def postprocess(outputs):
    return {}
"""
SAYS_CLASS = """
def postprocess(outputs):
    return {"prediction": int(outputs["label"][0]), "said_by": "service.py"}
"""
pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.docker, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def contained(has_docker: None, project: Project) -> Iterator[Project]:
    """The project with its base image and little memory, in a local AWS of containers, bootstrapped and entered."""
    settings = project.directory / "onnxship.yaml"
    text = settings.read_text().replace(
        "compute: {cpu: 1024, memory_mib: 2048,",
        f'image: {{base: "{DOCKER_BASE}"}}\n    compute: {{cpu: 256, memory_mib: 512,',
    )
    settings.write_text(text)
    project.commit("Base image and memory")
    project.environment |= for_builds()
    ended = project.onnxship("rehearse", "up", "--engine", "docker")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    ended = project.onnxship("bootstrap")
    assert 0 == ended.exit_code, ended.stderr
    yield project
    project.onnxship("rehearse", "down")
    assert [] == containers(project)


@dataclass
class Traffic:
    """Requests to production, one after another, until `stop`."""

    url: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers[predict(self.url)[0]] += 1
            except (OSError, urllib.error.URLError) as error:
                self.failures.append(repr(error))
            time.sleep(0.02)  # a pace, not a wait


def containers(project: Project) -> list[str]:
    """Containers of this project's local AWS, also ended ones."""
    label = f"label=onnxship.rehearsal={project.directory / '.onnxship/rehearsal'}"
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", label], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def ship_code(project: Project, code: str, release: str, *more: str) -> tuple[int, str, str]:
    """Commit a service.py and ship it: exit code, standard output, standard error."""
    (project.directory / "service.py").write_text(code)
    project.commit(release)
    ended = project.onnxship("ship", "--release", release, "--yes", *more)
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def first(contained: Project) -> dict[str, object]:
    """The first release, live."""
    ended = contained.onnxship("ship", "--release", "v1", "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    return ended.json


@pytest.fixture(scope="module")
def second(contained: Project, first: dict[str, object]) -> Traffic:
    """A second release with code of its own, and what users saw meanwhile."""
    with Traffic(str(first["production_url"])) as traffic:
        code, _, stderr = ship_code(contained, SAYS_CLASS, "v2")
    assert 0 == code, stderr
    return traffic


def test_the_first_release_is_built_pushed_pulled_and_gated(contained: Project, first: dict[str, object]) -> None:
    """Two containers run the very image that was pushed; both gates passed."""
    assert {"golden": "pass", "load": "pass"}.items() <= {
        gate["name"]: gate["verdict"]
        for gate in first["gates"]  # type: ignore[attr-defined]
    }.items()
    inspect = ["docker", "inspect", "--format", "{{.Config.Image}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}}"]
    told = subprocess.run([*inspect, *containers(contained)], capture_output=True, text=True, check=True).stdout
    found = {tuple(line.rpartition("@")[2].split()) for line in told.splitlines()}

    assert {(first["image_digest"], "10001:10001", "true")} == found
    assert "v1" == predict(str(first["production_url"]))[0]


def test_the_second_release_replaces_it_without_a_failed_request(second: Traffic) -> None:
    """Each answer names its release; none is missing, and both served."""
    assert [] == second.failures
    assert {"v1", "v2"} == set(second.answers)
    release, answer = predict(second.url)
    assert ("v2", "service.py") == (release, answer["said_by"])


def test_a_release_that_crashes_at_start_is_refused_with_its_last_lines(contained: Project, second: Traffic) -> None:
    """Exit 3, the reason as the container wrote it, and not one request of production."""
    with Traffic(second.url) as traffic:
        code, _, stderr = ship_code(contained, CRASHES, "v3")

    assert 3 == code, stderr
    assert "there is no vocabulary.txt" in stderr
    assert ([], {"v2"}) == (traffic.failures, set(traffic.answers))


def test_a_release_that_takes_too_much_memory_is_refused_by_name(contained: Project, second: Traffic) -> None:
    """The kernel ends it at the task's limit, and the refusal says so in ECS's words."""
    with Traffic(second.url) as traffic:
        code, _, stderr = ship_code(contained, HOARDS, "v4")

    assert 3 == code, stderr
    assert "exit code 137, OutOfMemoryError: Container killed due to memory usage" in stderr
    assert ([], {"v2"}) == (traffic.failures, set(traffic.answers))


def test_going_back_takes_the_first_image_again(contained: Project, second: Traffic) -> None:
    """A rollback builds nothing: the recorded digest runs."""
    ended = contained.onnxship("rollback", "v1", "--yes")

    assert 0 == ended.exit_code, ended.stderr
    assert "v1" == predict(second.url)[0]
