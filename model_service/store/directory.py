"""Directories under MODEL_DIR: filled under a hidden name, renamed when all is there, verified when found again.

Nothing is written through a symbolic link: files are created in a fresh directory that only this user may enter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_service.errors import StartRefused
from model_service.manifest import ModelFile

PREFIX = ".incoming-"
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def incoming(target: Path, files: Sequence[ModelFile]) -> Iterator[Path]:
    """A fresh directory with room for `files`, called `target` after the block; a block that raises leaves nothing.

    Raises StartRefused if the disk has not enough room.
    """
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _locked(parent):
            _remove_leftovers(parent)
            _remove(target)  # damaged, or it would have been reused; its room may be needed
            _check_room(parent, sum(file.size_bytes for file in files))
            directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.enter_context(_locked(directory))
        yield directory
        _remove(target)  # another process may have been faster
        os.rename(directory, target)


def create_file(directory: Path, file: ModelFile) -> int:
    """An open descriptor of a new file whose blocks are all allocated: writing it cannot run out of disk later."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(directory / file.name, flags, 0o644)
    try:
        if file.size_bytes:
            os.posix_fallocate(fd, 0, file.size_bytes)
    except OSError:
        os.close(fd)
        raise
    return fd


def holds(target: Path, files: Sequence[ModelFile]) -> bool:
    """Whether `target` is a directory of exactly these files, each with its size and digest."""
    try:
        directory = os.open(target, DIRECTORY_FLAGS)
    except OSError:  # not there, or no directory: either way it is to be fetched
        return False
    try:
        names = {file.name for file in files}
        return set(os.listdir(directory)) == names and all(_is_intact(directory, file) for file in files)
    finally:
        os.close(directory)


def _is_intact(directory: int, file: ModelFile) -> bool:
    try:
        fd = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:  # a link, or unreadable: not what this service stored
        return False
    with open(fd, "rb", buffering=0) as stored:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size_bytes:
            return False
        return hashlib.file_digest(stored, "sha256").hexdigest() == file.sha256


def _check_room(directory: Path, size_bytes: int) -> None:
    free_bytes = shutil.disk_usage(directory).free
    if size_bytes > free_bytes:
        raise StartRefused(
            f"the disk of MODEL_DIR {directory} is full: the model needs {size_bytes} bytes and {free_bytes} are free"
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Tells other processes that the directory is in use; the kernel ends it when this process is killed.

    A network file system may not lock directories. Then nothing is locked, and nobody's leftovers are removed.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_leftovers(parent: Path) -> None:
    """What killed processes left would fill the disk of a container that is started again and again."""
    for leftover in parent.glob(f"{PREFIX}*"):
        try:
            fd = os.open(leftover, DIRECTORY_FLAGS)
        except OSError:  # gone meanwhile, or not one of ours
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process is filling it
            continue
        else:
            shutil.rmtree(leftover)
        finally:
            os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
