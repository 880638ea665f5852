"""Real Docker against the local AWS: what is built is what ECR holds, runs as on Fargate, and leaves no password.

Skipped where no Docker answers or it lacks BuildKit. Where the base image of the server cannot be pulled,
ONNXSHIP_TEST_BASE names a Python base image that Docker has.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.aws import ecr
from pipeline.building import docker
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.results import Built
from pipeline.stages.build import build
from pipeline.stages.publish import write_local
from tests.pipeline.conftest import SERVICE, Cloud

BASE = os.environ.get("ONNXSHIP_TEST_BASE", "python:3.11-slim-bookworm")
SERVICE_PY = """
import humanize
def postprocess(outputs):
    return {"said": humanize.intcomma(1000 + int(outputs["label"][0]))}
"""
pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def installed() -> docker.Installed:
    """This machine's Docker."""
    try:
        return docker.require_docker()
    except ConfigError as error:
        pytest.skip(f"{error.what} {error.remedy}")


@pytest.fixture(scope="module")
def base() -> str:
    """A Python base image that Docker has or can pull."""
    if not (succeeds("docker", "image", "inspect", BASE) or succeeds("docker", "pull", "--quiet", BASE)):
        pytest.skip(f"Docker has no {BASE} and cannot pull it; name another in ONNXSHIP_TEST_BASE")
    return BASE


@pytest.fixture
def ready(cloud: Cloud) -> Iterator[Cloud]:
    """A project with its registry; its images leave Docker with the test."""
    cloud.make_registry()
    yield cloud
    name = f"*/{cloud.config.project}-{cloud.config.environment_name}"
    listed = said("docker", "image", "ls", "--filter", f"reference={name}", "--format", "{{.Repository}}:{{.Tag}}")
    for reference in listed.split():
        said("docker", "image", "rm", reference)


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def with_image(cloud: Cloud, **settings: str) -> Config:
    service = cloud.config.services[SERVICE]
    image = service.image.model_copy(update={"builder": "docker", **settings})
    gate = service.gate.model_copy(update={"from_": "runner"})  # whose image is no concern of these tests
    changed = service.model_copy(update={"image": image, "gate": gate})
    return cloud.config.model_copy(update={"services": {SERVICE: changed}})


def with_dockerfile(cloud: Cloud, text: str) -> Config:
    (cloud.config.directory / "Dockerfile").write_text(text)
    return with_image(cloud, dockerfile="Dockerfile")


def built(cloud: Cloud, config: Config) -> Built:
    clock, show = cloud.clock, cloud.lines.append
    return build(config, cloud.aws, clock, service=SERVICE, allow_dirty=True, on_progress=show)


def repository(cloud: Cloud) -> str:
    return f"{cloud.config.project}-{cloud.config.environment_name}"


def test_ecr_holds_what_was_built_and_a_second_build_takes_it(ready: Cloud) -> None:
    """One manifest for linux/amd64 under the digest that Docker knows it by; the same content is not built again."""
    config = with_dockerfile(ready, "FROM scratch\nCOPY service.py /\n")

    first = built(ready, config)
    ready.lines.clear()
    second = built(ready, config)

    manifest = ecr.get_manifest(ready.aws, repository(ready), first.image_digest)
    known = said(
        "docker", "image", "inspect", "--format", "{{json .RepoDigests}}", f"{first.repository_uri}:{first.tag}"
    )
    assert [f"{first.repository_uri}@{first.image_digest}"] == json.loads(known)
    assert manifest.media_type in ecr.MANIFEST_TYPES
    assert ("linux/amd64",) == ecr.platforms(ready.aws, repository(ready), manifest)
    assert (True, first.image_digest) == (second.reused, second.image_digest)
    assert 1 == len(ready.lines)


def test_no_password_stays_with_the_user(ready: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings are read, a credential store of theirs is not asked, and nothing of theirs changes."""
    mine = tmp_path / "docker"
    mine.mkdir()
    actual = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
    for plugins in actual.glob("cli-plugins"):
        (mine / "cli-plugins").symlink_to(plugins)
    before = json.dumps({"credsStore": "no-such-store", "auths": {"registry.example": {"auth": "bWU6bXk="}}})
    (mine / "config.json").write_text(before)
    monkeypatch.setenv("DOCKER_CONFIG", str(mine))

    built(ready, with_dockerfile(ready, "FROM scratch\nCOPY service.py /\n"))

    assert before == (mine / "config.json").read_text()
    assert {"cli-plugins", "config.json"} >= {path.name for path in mine.iterdir()}


def test_a_failed_build_shows_dockers_last_words(ready: Cloud) -> None:
    """What Docker said last is in the error, with what to do."""
    with pytest.raises(ConfigError, match="failed with exit code") as caught:
        built(ready, with_dockerfile(ready, "FROM scratch\nCOPY not-there.txt /\n"))

    assert any("not-there.txt" in line for line in caught.value.details)
    assert docker.BUILD_FAILED == caught.value.remedy


def test_the_machines_secrets_and_network_reach_the_build(
    ready: Cloud, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate authority, pip's settings and network come from the environment; the secrets are in no layer."""
    for name, variable in {"ca": "ONNXSHIP_BUILD_CA", "pipconf": "ONNXSHIP_BUILD_PIP_CONFIG"}.items():
        (tmp_path / name).write_text(f"content of {name}\n")
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("ONNXSHIP_BUILD_NETWORK", "none")
    config = with_dockerfile(
        ready,
        f"ARG BASE\nFROM ${{BASE}}\nRUN echo {uuid.uuid4()}\n"  # so that no layer is taken from an earlier run
        "RUN --mount=type=secret,id=ca --mount=type=secret,id=pipconf cat /run/secrets/ca /run/secrets/pipconf \\\n"
        "  && ls /sys/class/net && echo interfaces: $(ls /sys/class/net)\n",
    )
    services = {SERVICE: config.services[SERVICE]}
    image = services[SERVICE].image.model_copy(update={"base": base})
    services[SERVICE] = services[SERVICE].model_copy(update={"image": image})

    made = built(ready, config.model_copy(update={"services": services}))

    text = "\n".join(ready.lines)
    left = said("docker", "run", "--rm", f"{made.repository_uri}:{made.tag}", "ls", "/run/secrets")
    assert ("content of ca" in text, "content of pipconf" in text) == (True, True)
    assert "interfaces: lo\n" in text
    assert "" == left


def test_the_servers_image_runs_as_on_fargate(
    ready: Cloud, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only and as 10001, with the user's service.py and its requirements, the server is ready."""
    (ready.config.directory / "service.py").write_text(SERVICE_PY)
    (ready.config.directory / "requirements.txt").write_text("humanize\n")
    config = with_image(ready, base=base)
    image = built(ready, config)
    models = tmp_path / "published"
    models.mkdir()
    manifest = write_local(config, SERVICE, models)
    container = run_container(f"{image.repository_uri}@{image.image_digest}", models, manifest.name)
    try:
        port = int(said("docker", "port", container, "8080/tcp").splitlines()[0].rpartition(":")[2])
        until_ready(container, port)
        status, answer = call(port, "POST", "/predict", {"input": [0.0, 0.0, 9.0, 0.0]})
        user = said("docker", "exec", container, "id", "-u")
        can_write = succeeds("docker", "exec", container, "touch", "/app/x")
    finally:
        said("docker", "rm", "--force", "--volumes", container)

    assert (200, "1,002") == (status, answer.get("said"))
    assert ("10001", False) == (user, can_write)


def run_container(image: str, models: Path, manifest: str) -> str:
    models.chmod(0o755)
    for path in (*models.parents[:2], *models.iterdir()):
        path.chmod(0o755)
    return said(
        *("docker", "run", "--detach", "--read-only", "--init", "--cap-drop", "ALL", "--publish", "127.0.0.1::8080"),
        *("--volume", f"{models}:/published:ro", "--env", f"MODEL_MANIFEST_URI=file:///published/{manifest}", image),
    )


def until_ready(container: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if call(port, "GET", "/v2/health/ready")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
    pytest.fail(f"not ready in 60 s: {subprocess.run(['docker', 'logs', container], capture_output=True).stderr!r}")


def call(port: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content or b"{}")
    finally:
        connection.close()
