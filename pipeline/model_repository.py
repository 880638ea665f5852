"""A model's directory in a repository of the server's: files named by their content, then the manifest that pins them.

A server may read while this writes. So a name never changes its content, the manifest is renamed into place when all
else is there, and the files of the manifest of before, kept as `manifest.previous.json`, stay until the next change.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, UsageError
from pipeline.model_manifest import ManifestFile, measure
from pipeline.onnx_model import OnnxModel, with_data_named

MANIFEST_NAME, PREVIOUS_NAME = "manifest.json", "manifest.previous.json"
UNFINISHED = ".unfinished"  # the next run overwrites what a killed one left
OWN_NAME = re.compile(r"(model|data|golden)-[0-9a-f]{12}(\.[^.]*)?")
DIGITS = 12  # of the sha256, in names as in the version that the server gives a manifest

Content = Path | bytes
Entry = tuple[ManifestFile, Content]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What the manifest pins, each with where its content comes from: the .onnx first, then its external data."""

    model: list[Entry]
    golden: Entry | None


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the directory. `reused`: the very same manifest stood there already."""

    version: str
    reused: bool
    removed: tuple[str, ...]


def content_named(onnx: OnnxModel, golden: bytes) -> ModelFiles:
    """The model's files and golden inputs under names that hold their sha256; the .onnx names its data by them."""
    path, *data = onnx.files
    named = {file.name: _named("data", file.suffix, file) for file in data}
    content = with_data_named(path, {old: entry.name for old, (entry, _) in named.items()}) if data else path
    unique = {entry.name: (entry, source) for entry, source in named.values()}
    model = [_named("model", ".onnx", content), *unique.values()]
    return ModelFiles(model, _named("golden", ".npz", golden) if golden else None)


def put(directory: Path, files: ModelFiles, manifest: bytes) -> Change:
    """Write what is not there yet, and the manifest last; then remove what neither it nor the one before names.

    Raises UsageError when the directory cannot be written, ConfigError when a source changes while it is copied.
    """
    version = measure(manifest)[0][:DIGITS]
    current, previous = directory / MANIFEST_NAME, directory / PREVIOUS_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory):
            for entry, content in [*files.model, *([files.golden] if files.golden else [])]:
                _place(directory / entry.name, content, entry.sha256)
            if current.exists() and current.read_bytes() == manifest:
                return Change(version, reused=True, removed=())
            if current.exists():
                _place(previous, current.read_bytes())
            _place(current, manifest)
            removed = _remove_own_but(directory, _named_in(current) | _named_in(previous))
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error.strerror}.", "name another --repository") from error
    return Change(version, reused=False, removed=removed)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two runs at once would remove each other's files; the second one waits."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _named(stem: str, suffix: str, content: Content) -> Entry:
    sha256, size_bytes = measure(content)
    return ManifestFile(f"{stem}-{sha256[:DIGITS]}{suffix}", sha256, size_bytes), content


def _place(path: Path, content: Content, sha256: str = "") -> None:
    """Put the content at `path` in one step; what stands there with this sha256 is left alone."""
    if sha256 and path.exists() and measure(path)[0] == sha256:
        return
    unfinished = path.with_name(UNFINISHED)
    try:
        with unfinished.open("wb") as target:
            if isinstance(content, bytes):
                target.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        if sha256 and measure(unfinished)[0] != sha256:
            raise ConfigError(f"{content!s} changed while it was copied.", "run the command again when it is whole")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _named_in(manifest: Path) -> set[str]:
    """The files that a manifest names; none where there is none, or no server could use it."""
    try:
        content = json.loads(manifest.read_bytes())
        return {str(file["name"]) for file in [*content["files"], content.get("golden")] if file}
    except FileNotFoundError:
        return set()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


def _remove_own_but(directory: Path, kept: set[str]) -> tuple[str, ...]:
    """Remove what was written here and is not in `kept`, also by a run that was killed; its name holds its sha256."""
    candidates = [path for path in directory.iterdir() if path.name not in kept and OWN_NAME.fullmatch(path.name)]
    own = sorted(path for path in candidates if path.is_file() and _sha256_in(path) == measure(path)[0][:DIGITS])
    for path in own:
        path.unlink()
    return tuple(path.name for path in own)


def _sha256_in(path: Path) -> str:
    return path.stem.rpartition("-")[2]
