"""Docker as a process: build for linux/amd64 and push. Every command is a list of words, its output progress.

`--provenance=false --sbom=false`: one manifest and one digest, instead of an index with attestations beside it.
https://docs.docker.com/build/metadata/attestations/
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import ConfigError

PLATFORM = "linux/amd64"
NO_DOCKER = "install Docker and start it (https://docs.docker.com/get-docker/), or rehearse: `onnxship rehearse ship`"
NO_BUILDX = "install the package `docker-buildx-plugin` (from Docker), or `docker-buildx` (from Debian or Ubuntu)"
BUILD_FAILED = (
    "correct what Docker's last lines name; for a network with a certificate authority or a package index of its own "
    "set ONNXSHIP_BUILD_CA or ONNXSHIP_BUILD_PIP_CONFIG"
)
PUSH_FAILED = "correct what Docker's last lines name; the same command can be run again safely"
# `RUN --mount` needs BuildKit. Clients before 23 reach it themselves, those since then through the buildx plugin only.
# https://docs.docker.com/engine/release-notes/23.0/
HAS_BUILDKIT_INSIDE = range(19, 23)


@dataclass(frozen=True, slots=True)
class Installed:
    """The Docker of this machine: its client's version, and whether that has the buildx plugin."""

    client_version: str
    has_buildx: bool

    @property
    def has_buildkit_inside(self) -> bool:
        """Whether `docker build` is BuildKit, when the environment asks for it."""
        major = self.client_version.partition(".")[0]
        return major.isdecimal() and int(major) in HAS_BUILDKIT_INSIDE


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """What is built and where it is pushed: the Dockerfile's `stage`, or its last one.

    `options` are further words for Docker: the machine's, not the image's.
    """

    directory: Path
    dockerfile: Path
    reference: str
    arguments: Mapping[str, str]
    options: tuple[str, ...] = ()
    stage: str | None = None

    @property
    def words(self) -> list[str]:
        """What every builder is told alike."""
        return [
            *("--platform", PLATFORM),
            *(("--target", self.stage) if self.stage else ()),
            *[word for name, value in sorted(self.arguments.items()) for word in ("--build-arg", f"{name}={value}")],
            *self.options,
            *("--progress", "plain", "--file", str(self.dockerfile), "--tag", self.reference),
        ]


def require_docker() -> Installed:
    """The Docker that can build. Raises ConfigError when there is none, its daemon is silent, or it lacks BuildKit."""
    try:
        version = _said("docker", "version", "--format", "{{.Client.Version}}")
    except FileNotFoundError as error:
        raise ConfigError("The image is built with Docker, which is not installed.", NO_DOCKER) from error
    if version.returncode != 0:
        said = tuple(version.stderr.splitlines()[-3:])
        raise ConfigError("The image is built with Docker, whose daemon does not answer.", NO_DOCKER, details=said)
    installed = Installed(version.stdout.strip(), _said("docker", "buildx", "version").returncode == 0)
    if not installed.has_buildx and not installed.has_buildkit_inside:
        raise ConfigError(
            f"Docker {installed.client_version} has no buildx, without which it cannot build the image.", NO_BUILDX
        )
    return installed


def build_and_push(
    image: ImageBuild, installed: Installed, environment: Mapping[str, str], on_progress: Callable[[str], None]
) -> str:
    """Build `image` and push it; the digest of what was pushed. Raises ConfigError with Docker's last lines."""
    if installed.has_buildx:
        with TemporaryDirectory(prefix="onnxship-metadata-") as directory:
            metadata = Path(directory, "metadata.json")
            _run(buildx_command(image, metadata), environment, on_progress, BUILD_FAILED)
            return str(json.loads(metadata.read_text())["containerimage.digest"])
    build, push = buildkit_commands(image)
    _run(build, {**environment, "DOCKER_BUILDKIT": "1"}, on_progress, BUILD_FAILED)
    return pushed_digest(_run(push, environment, on_progress, PUSH_FAILED))


def buildx_command(image: ImageBuild, metadata: Path) -> list[str]:
    """Build and push in one go; the digest is written to `metadata`."""
    without_attestations = ("--provenance=false", "--sbom=false")
    pushed = ("--push", "--metadata-file", str(metadata))
    return ["docker", "buildx", "build", *without_attestations, *image.words, *pushed, str(image.directory)]


def buildkit_commands(image: ImageBuild) -> tuple[list[str], list[str]]:
    """Build, then push, with a client that has BuildKit inside."""
    return ["docker", "build", *image.words, str(image.directory)], ["docker", "push", image.reference]


def pushed_digest(lines: Sequence[str]) -> str:
    """The digest that `docker push` ends with, or "" when its words are others."""
    found = re.search(r"digest: (sha256:[0-9a-f]{64})", "\n".join(lines))
    return found[1] if found else ""


def _said(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(
    command: Sequence[str], environment: Mapping[str, str], on_progress: Callable[[str], None], remedy: str
) -> tuple[str, ...]:
    """The last lines of the output."""
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        command, env=environment, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            on_progress(line.rstrip())
    if process.returncode != 0:
        words = " ".join(command[: 3 if command[1] == "buildx" else 2])
        raise ConfigError(f"`{words}` failed with exit code {process.returncode}.", remedy, details=tuple(last))
    return tuple(last)
