"""Which commit a release comes from, told by git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.building import git
from pipeline.errors import ConfigError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of a.txt and b.txt."""
    directory = tmp_path / "repository"
    directory.mkdir()
    for name in ("a.txt", "b.txt"):
        (directory / name).write_text(name)
    run(directory, "init", "-q")
    run(directory, "add", ".")
    run(directory, "commit", "-qm", "x")
    return directory


def run(directory: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(directory), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_committed_tree_is_its_commit(repository: Path) -> None:
    """The full sha, and nothing to complain about."""
    identity = git.identify(repository, [repository])

    assert (identity.sha, identity.is_dirty) == (run(repository, "rev-parse", "HEAD"), False)


def test_changed_renamed_and_new_files_are_named(repository: Path) -> None:
    """Whatever differs from the commit is listed; a rename by its new name."""
    (repository / "a.txt").write_text("changed")
    run(repository, "mv", "b.txt", "c d.txt")
    (repository / "new.txt").write_text("new")

    assert set(git.identify(repository, [repository]).changed) == {"a.txt", "c d.txt", "new.txt"}


def test_only_the_given_paths_count(repository: Path, tmp_path: Path) -> None:
    """A change elsewhere does not matter, nor does a file outside the repository."""
    (repository / "a.txt").write_text("changed")
    (tmp_path / "model.onnx").write_text("outside")

    for paths in ([repository / "b.txt"], [tmp_path / "model.onnx"], []):
        assert not git.identify(repository, paths).is_dirty


def test_without_a_commit_the_reason_is_gits_own(tmp_path: Path) -> None:
    """No repository: the sha says so, and the tree counts as uncommitted."""
    identity = git.identify(tmp_path, [tmp_path])

    assert (identity.sha, identity.is_dirty) == ("nogit", True)
    with pytest.raises(ConfigError, match="not a git repository"):
        git.refuse_dirty(identity)


def test_a_known_commit_needs_no_repository(tmp_path: Path) -> None:
    """A source archive stands for the commit that CI names."""
    identity = git.identify(tmp_path, [tmp_path], sha="a" * 40)

    assert (identity.sha, identity.is_dirty) == ("a" * 40, False)


def test_a_long_list_is_cut(repository: Path) -> None:
    """Ten names and a number are enough."""
    for number in range(12):
        (repository / f"n{number:02}").write_text("")

    with pytest.raises(ConfigError) as caught:
        git.refuse_dirty(git.identify(repository, [repository]))

    assert (len(caught.value.details), caught.value.details[-1]) == (11, "and 2 more")
