"""The one error that `python -m rehearsal` answers with exit 2."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)


class Unusable(Exception):
    """What `up` was asked for cannot be had: `what` is wrong, `remedy` helps."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def unwritable(error: OSError, directory: Path) -> Unusable:
    """What to say when the files of a rehearsal cannot be written."""
    path = error.filename or directory
    return Unusable(f"{path} cannot be written: {error.strerror} ({room(directory)}).", remedy_of(error))


def room(directory: Path) -> str:
    """How many bytes are free where `directory` is or would be."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    return f"{shutil.disk_usage(there).free:,} bytes free"


def remedy_of(error: OSError) -> str:
    """What helps against a write that failed."""
    if error.errno in FULL:
        return "make room on that disk, then run the same command again"
    return "let this user write there, then run the same command again"
