"""Docker as a process: build for linux/amd64 and push. Every command is a list of words, its output progress.

`--provenance=false --sbom=false`: one manifest and one digest, instead of an index with attestations beside it.
https://docs.docker.com/build/metadata/attestations/
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.errors import ConfigError

PLATFORM = "linux/amd64"
NO_DOCKER = "install Docker and start it (https://docs.docker.com/get-docker/), or rehearse: `onnxship rehearse ship`"


def build_and_push(
    directory: Path, dockerfile: Path, reference: str, arguments: Mapping[str, str], on_progress: Callable[[str], None]
) -> None:
    """Build `directory` and push it as `reference`. Raises ConfigError with Docker's last lines when it fails."""
    if _succeeds(["docker", "buildx", "version"]):
        command = buildx_command(directory, dockerfile, reference, arguments)
        _run(command, on_progress, "correct what Docker's last lines name")
        return
    # DOCKER_BUILDKIT=1 would fail here: since Docker 23 BuildKit is reached through buildx only.
    on_progress("Docker has no buildx, so its classic builder is used: https://docs.docker.com/go/buildx/")
    for command in classic_commands(directory, dockerfile, reference, arguments):
        _run(command, on_progress, "install buildx if `RUN --mount` is refused, else correct what the last lines name")


def login(registry: str, user: str, password: str) -> None:
    """Log Docker in to `registry`; the password goes through stdin, where no process list shows it."""
    command = ["docker", "login", "--username", user, "--password-stdin", registry]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(
            f"docker login to {registry} failed.", NO_DOCKER, details=tuple(done.stderr.splitlines()[-5:])
        )


def require_docker() -> None:
    """Raise ConfigError when there is no Docker, or its daemon does not answer."""
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ConfigError("The image is built with Docker, which is not installed.", NO_DOCKER) from error
    if done.returncode != 0:
        said = tuple(done.stderr.splitlines()[-3:])
        raise ConfigError("The image is built with Docker, whose daemon does not answer.", NO_DOCKER, details=said)


def buildx_command(directory: Path, dockerfile: Path, reference: str, arguments: Mapping[str, str]) -> list[str]:
    """Build and push in one go."""
    return [
        *("docker", "buildx", "build", "--platform", PLATFORM, "--provenance=false", "--sbom=false"),
        *_arguments(arguments),
        *("--progress", "plain", "--file", str(dockerfile), "--tag", reference, "--push", str(directory)),
    ]


def classic_commands(
    directory: Path, dockerfile: Path, reference: str, arguments: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Build, then push, with a Docker that has no buildx."""
    return (
        [
            *("docker", "build", "--platform", PLATFORM),
            *_arguments(arguments),
            *("--file", str(dockerfile), "--tag", reference, str(directory)),
        ],
        ["docker", "push", reference],
    )


def _arguments(arguments: Mapping[str, str]) -> list[str]:
    return [word for name, value in sorted(arguments.items()) for word in ("--build-arg", f"{name}={value}")]


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str], on_progress: Callable[[str], None], remedy: str) -> None:
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        command, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            on_progress(line.rstrip())
    if process.returncode != 0:
        raise ConfigError(
            f"`{' '.join(command[:3])}` failed with exit code {process.returncode}.",
            remedy,
            details=tuple(last),
        )
