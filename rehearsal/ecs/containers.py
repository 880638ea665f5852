"""How a container definition and its image become a command of this machine (rehearsal process engine)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from rehearsal.context import LOOPBACK, Settings
from rehearsal.ecs.images import Image

# Needed to run this machine's interpreter at all; nothing else of the rehearsal's own environment gets through.
FROM_HOST = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
UNREHEARSED = (
    "dependsOn",
    "environmentFiles",
    "firelensConfiguration",
    "links",
    "repositoryCredentials",
    "volumesFrom",
)


class CannotStart(Exception):
    """The task cannot start; the text is the stopped reason."""


def refuse_unrehearsed(container: dict[str, Any]) -> None:
    """A definition whose meaning the process engine would drop is refused by name."""
    found = [key for key in UNREHEARSED if container.get(key)]
    if found:
        raise CannotStart(
            f"ResourceInitializationError: not rehearsed in container {container['name']}: {', '.join(found)}"
        )


def command_of(container: dict[str, Any], image: Image, override: dict[str, Any]) -> list[str]:
    """The words to run; `python` is the rehearsal's own interpreter, since an image brings none here."""
    config = image.config.get("config") or {}
    entry = container.get("entryPoint") or config.get("Entrypoint") or []
    words = (
        override.get("command")
        or container.get("command")
        or ([] if container.get("entryPoint") else config.get("Cmd"))
    )
    argv = [str(word) for word in (*entry, *(words or []))]
    if not argv:
        raise CannotStart("CannotStartContainerError: No command specified")
    if argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    return argv


def directory_of(image: Image, root: Path) -> Path:
    """The image's working directory under `root`."""
    inside = str((image.config.get("config") or {}).get("WorkingDir") or "/").lstrip("/")
    directory = (root / inside).resolve()
    if not directory.is_relative_to(root.resolve()):
        raise CannotStart(f"CannotStartContainerError: working directory {inside} is outside the image")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def root_of(container: dict[str, Any], image: Image, task_directory: Path) -> Path:
    """The image's files: shared when the container's root is read-only, the task's own copy when it is not."""
    assert image.root is not None
    if container.get("readonlyRootFilesystem"):
        return image.root
    copy = task_directory / "root" / str(container["name"])
    shutil.copytree(image.root, copy, symlinks=True, dirs_exist_ok=True)
    return copy


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def port_names(container: dict[str, Any]) -> list[tuple[int, str | None]]:
    """Container port, and the variable that tells the process which port it really gets."""
    mappings = container.get("portMappings") or []
    return [
        (mapping["containerPort"], "PORT" if n == 0 else _variable(mapping.get("name")))
        for n, mapping in enumerate(mappings)
    ]


def _variable(name: str | None) -> str | None:
    return re.sub(r"\W", "_", name).upper() + "_PORT" if name else None


def environment_of(
    container: dict[str, Any],
    image: Image,
    override: dict[str, Any],
    secrets: dict[str, str],
    ports: dict[int, int],
    mounts: dict[str, Path],
) -> dict[str, str]:
    """What the container's process sees: image, definition, overrides, secrets; ports and mounts as they really are."""
    config = image.config.get("config") or {}
    given = dict(line.partition("=")[::2] for line in config.get("Env") or [])
    for source in (container.get("environment") or [], override.get("environment") or []):
        given |= {entry["name"]: entry["value"] for entry in source}
    given |= secrets
    given |= {name: str(ports[port]) for port, name in port_names(container) if name}
    given = {name: _mounted(value, mounts) for name, value in given.items()}
    if "/tmp" in mounts:  # noqa: S108 - a path inside the container
        given["TMPDIR"] = str(mounts["/tmp"])  # noqa: S108
    return {**{name: os.environ[name] for name in FROM_HOST if name in os.environ}, **given, "PATH": os.environ["PATH"]}


def aws_environment(settings: Settings, endpoint: str) -> dict[str, str]:
    """What points a container's AWS SDK at this rehearsal, and at nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def _mounted(value: str, mounts: dict[str, Path]) -> str:
    for inside in sorted(mounts, key=len, reverse=True):
        if value == inside or value.startswith(inside.rstrip("/") + "/"):
            return str(mounts[inside]) + value[len(inside.rstrip("/")) :]
    return value


def mounts_of(container: dict[str, Any], task_directory: Path) -> dict[str, Path]:
    """Container path -> the task's own directory for the volume mounted there."""
    mounts = {}
    for mount in container.get("mountPoints") or []:
        directory = task_directory / "volumes" / str(mount["sourceVolume"])
        directory.mkdir(parents=True, exist_ok=True)
        mounts[str(mount["containerPath"])] = directory
    return mounts
