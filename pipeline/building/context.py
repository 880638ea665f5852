"""The build context: the files an image is made of, and the digest by which the same image is found again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pipeline.building.user_code import check_user_code
from pipeline.config import Config
from pipeline.errors import ConfigError

USER_CODE, USER_REQUIREMENTS = "service.py", "requirements.txt"
SERVER_PACKAGE = "model_service"
SERVER_DOCKERFILE = f"{SERVER_PACKAGE}/Dockerfile"
SERVER_COMMAND = ("python", "-m", SERVER_PACKAGE)
LEFT_OUT = frozenset({"__pycache__", ".git", ".onnxship"})


@dataclass(frozen=True, slots=True)
class ContextFile:
    """One file: its path in the context (with slashes), its content, and whether it may be executed."""

    path: str
    content: bytes
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What goes into an image. `directory` is set when Docker takes the user's directory as it stands.

    `command` is what an image without a Dockerfile runs.
    """

    files: tuple[ContextFile, ...]
    dockerfile: str
    target: str
    builder: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    user_paths: tuple[Path, ...] = ()
    command: tuple[str, ...] = SERVER_COMMAND

    @property
    def stage(self) -> str | None:
        """The stage that Docker builds: the target, or the last one of a Dockerfile of the user's own."""
        return self.target if self.directory is None else None

    @property
    def digest(self) -> str:
        """sha256 in hex over every file, the Dockerfile, its arguments, the target and the builder."""
        listed = [[f.path, hashlib.sha256(f.content).hexdigest(), f.is_executable] for f in self.files]
        settings = [self.dockerfile, dict(self.arguments), self.target, self.builder]
        return hashlib.sha256(json.dumps([listed, settings], sort_keys=True).encode()).hexdigest()

    def write_to(self, directory: Path) -> None:
        """The files as a directory that Docker can be pointed at."""
        for file in self.files:
            path = directory / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(0o755 if file.is_executable else 0o644)


def build_context(config: Config, service: str) -> BuildContext:
    """The context of a service's image: our server with the user's service.py, or a directory with a Dockerfile.

    Raises ConfigError when the directory or the Dockerfile is missing, service.py is faulty, or the builder cannot
    build it.
    """
    image = config.services[service].image
    directory = config.file(image.context)
    arguments = {"BASE": image.base} if image.base else {}
    if not directory.is_dir():
        raise ConfigError(f"There is no directory {directory}.", "correct services.<name>.image.context")
    if image.dockerfile is None:
        user_files = tuple(_user_files(directory))
        every = sorted([*package_files(files(SERVER_PACKAGE), SERVER_PACKAGE), *user_files], key=lambda f: f.path)
        user_paths = tuple(directory / file.path for file in user_files)
        return BuildContext(
            tuple(every), SERVER_DOCKERFILE, image.target, image.builder, arguments, user_paths=user_paths
        )
    if image.builder == "layers":
        raise ConfigError(
            "The `layers` builder cannot run a Dockerfile.",
            "set services.<name>.image.builder: docker (a rehearsal does with `onnxship rehearse up --engine docker`), "
            "or remove image.dockerfile",
        )
    if not (directory / image.dockerfile).is_file():
        raise ConfigError(
            f"There is no {image.dockerfile} in {directory}.",
            "correct services.<name>.image.dockerfile (it is looked for in image.context)",
        )
    refuse_other_platform(image.dockerfile, (directory / image.dockerfile).read_text())
    own = tuple(_own_files(directory, image.dockerfile))
    return BuildContext(own, image.dockerfile, image.target, image.builder, arguments, directory, (directory,))


def refuse_other_platform(name: str, dockerfile: str) -> None:
    """Raise ConfigError when the last stage says that it is for another platform than linux/amd64.

    BuildKit would label the image with the platform that was asked for, whatever is inside, and only the task's
    "exec format error" would tell: https://github.com/moby/buildkit/issues/6518
    """
    stages = re.findall(r"^[ \t]*FROM[ \t]+(.*)$", dockerfile, re.MULTILINE | re.IGNORECASE)
    said = re.match(r"--platform=[\"']?([^\s\"']+)", stages[-1]) if stages else None
    if said and said[1] not in ("linux/amd64", "$TARGETPLATFORM", "${TARGETPLATFORM}"):
        raise ConfigError(
            f"The last FROM line of {name} is for {said[1]}; the tasks need linux/amd64.",
            f"remove `--platform={said[1]}` from that line: the build asks for linux/amd64",
        )


def package_files(package: Traversable, prefix: str) -> Iterator[ContextFile]:
    """Every file of an installed package; it may lie in a clone or in a wheel."""
    for entry in package.iterdir():
        path = f"{prefix}/{entry.name}"
        if entry.is_dir() and entry.name not in LEFT_OUT:
            yield from package_files(entry, path)
        elif entry.is_file():
            yield ContextFile(path, entry.read_bytes())


def _user_files(directory: Path) -> Iterator[ContextFile]:
    """service.py with the Python files and the requirements.txt beside it; nothing when there is no service.py."""
    if not (directory / USER_CODE).is_file():
        return
    check_user_code(directory / USER_CODE)
    beside = [*directory.glob("*.py"), directory / USER_REQUIREMENTS]
    for path in beside:
        if path.is_file():
            yield ContextFile(path.name, path.read_bytes())


def _own_files(directory: Path, dockerfile: str) -> Iterator[ContextFile]:
    """What Docker would send: everything that .dockerignore does not leave out, and the Dockerfile always."""
    is_ignored = _ignored_by(directory / ".dockerignore")
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(set(directories) - LEFT_OUT)
        for name in sorted(names):
            path = Path(parent, name)
            relative = path.relative_to(directory).as_posix()
            if path.is_file() and (relative == dockerfile or not is_ignored(relative)):
                yield ContextFile(relative, path.read_bytes(), os.access(path, os.X_OK))


class _Ignored:
    """.dockerignore: the last pattern that matches a path or a directory above it decides.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """

    def __init__(self, lines: list[str]) -> None:
        patterns = [line.strip() for line in lines]
        kept = [p for p in patterns if p and not p.startswith("#")]
        self._rules = [(_regex(p.lstrip("!").strip("/")), not p.startswith("!")) for p in kept]

    def __call__(self, path: str) -> bool:
        verdict = False
        for regex, is_ignored in self._rules:
            if regex.fullmatch(path):
                verdict = is_ignored
        return verdict


def _ignored_by(path: Path) -> _Ignored:
    return _Ignored(path.read_text().splitlines() if path.is_file() else [])


def _regex(pattern: str) -> re.Pattern[str]:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(pieces.get(token, re.escape(token)) for token in tokens) + "(?:/.*)?")
