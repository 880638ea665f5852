"""Which commit the files of a release come from, and whether they still are what was committed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.words import counted

NO_GIT = "nogit"


@dataclass(frozen=True, slots=True)
class GitIdentity:
    """A commit, and what differs from it. `why` says in words what is not committed, or why there is no commit."""

    sha: str
    changed: tuple[str, ...]
    why: str

    @property
    def is_dirty(self) -> bool:
        return bool(self.why)


def identify(directory: Path, paths: Sequence[Path], *, sha: str | None = None) -> GitIdentity:
    """The commit of `directory`, and which of `paths` (files or directories) are changed or untracked.

    Paths outside the repository do not count: what is taken from there is pinned by its own sha256.
    A directory that is no git repository counts as changed, unless the caller knows its `sha` (a source archive).
    """
    found = _git(directory, "rev-parse", "--verify", "HEAD")
    if found.returncode != 0:
        why = "" if sha else _no_commit(found.stderr)
        return GitIdentity(sha or NO_GIT, (), why)
    top = Path(_git(directory, "rev-parse", "--show-toplevel").stdout.strip())
    inside = [str(path) for path in paths if path.is_relative_to(top)]
    if not inside:  # without a path git would list the whole repository
        return GitIdentity(sha or found.stdout.strip(), (), "")
    status = _git(directory, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--", *inside)
    if status.returncode != 0:
        return GitIdentity(sha or found.stdout.strip(), (), f"git status: {status.stderr.strip()}")
    changed = _changed(status.stdout)
    why = f"{counted(len(changed), 'file is', 'files are')} not committed" if changed else ""
    return GitIdentity(sha or found.stdout.strip(), changed, why)


def committed_at(directory: Path) -> str:
    """When the commit of `directory` was made, ISO 8601 in UTC; "" where there is no commit."""
    found = _git(directory, "show", "--no-patch", "--format=%cI", "HEAD")
    return found.stdout.strip() if found.returncode == 0 else ""


def refuse_dirty(identity: GitIdentity) -> None:
    """Raise ConfigError naming what is not committed."""
    if identity.is_dirty:
        shown = identity.changed[:10]
        more = [f"and {len(identity.changed) - 10} more"] if len(identity.changed) > 10 else []
        raise ConfigError(
            f"The release could not be found again: {identity.why}.",
            "commit first, or pass `--allow-dirty` outside CI",
            details=(*shown, *more),
        )


def _git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(directory), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")


def _no_commit(stderr: str) -> str:
    said = " ".join(stderr.split()).removeprefix("fatal: ")
    return f"there is no git commit ({said})"


def _changed(porcelain: str) -> tuple[str, ...]:
    """`XY path` entries, NUL-separated; a rename is followed by the old path.

    https://git-scm.com/docs/git-status#_porcelain_format_version_1
    """
    entries = iter(porcelain.split("\0"))
    changed = []
    for entry in entries:
        if not entry:
            continue
        changed.append(entry[3:])
        if entry[0] in "RC":
            next(entries, None)
    return tuple(name for name in changed if not name.startswith(".onnxship/"))
