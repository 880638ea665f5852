"""The lock files hold what pyproject.toml asks for, each file with its hash."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(lock: str) -> dict[str, str]:
    """Name and version of every package of a lock file."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def asked(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {name.group().lower() for name in names if name} - {"onnxship"}


EXTRAS = {
    "demo.lock": {"serve", "loadtest", "rehearsal", "demo"},
    "bench.lock": {"serve", "bench"},
    "dev.lock": set(PROJECT["project"]["optional-dependencies"]),
}


@pytest.mark.parametrize("lock", EXTRAS)
def test_everything_that_is_asked_for_is_locked(lock: str) -> None:
    """A dependency added to pyproject.toml alone would be missing on a fresh machine."""
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = asked([*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS[lock] for line in extras[extra])])
    wanted |= asked(PROJECT["dependency-groups"]["build"])
    wanted |= asked(PROJECT["dependency-groups"]["dev"]) if lock == "dev.lock" else set()

    assert set() == wanted - set(locked(lock))


@pytest.mark.parametrize("lock", ["demo.lock", "bench.lock"])
def test_the_locks_agree(lock: str) -> None:
    """`make test` after `make demo` or `make bench` changes no version."""
    first, dev = locked(lock), locked("dev.lock")

    assert {} == {name: (version, dev.get(name)) for name, version in first.items() if dev.get(name) != version}


CLIENTS = ROOT / "tests" / "model_service" / "clients"
LOCKS = [*(ROOT / "requirements" / lock for lock in EXTRAS), *sorted(CLIENTS.glob("*.lock"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_names_an_index(lock: Path) -> None:
    """Hashes say what is installed; where it comes from is the machine's own business."""
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("wanted", sorted(CLIENTS.glob("*.in")), ids=lambda wanted: wanted.name)
def test_the_clients_are_locked_as_they_are_asked_for(wanted: Path) -> None:
    """A version that is raised in the .in file alone would not be what is tested."""
    [line] = [line for line in wanted.read_text().splitlines() if not line.startswith("#")]
    name, version = line.split("==")

    assert f"{name.partition('[')[0]}=={version} " in wanted.with_suffix(".lock").read_text()


@pytest.mark.parametrize(("lock", "image"), [("demo.lock", "cpu"), ("dev.lock", "grpc")])
def test_the_server_runs_here_with_what_the_image_holds(lock: str, image: str) -> None:
    """The rehearsal's tasks, the tests and the image have the same versions of what the server imports."""
    content = (ROOT / "model_service" / f"requirements-{image}.lock").read_text()
    in_image = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", content, re.MULTILINE))
    here = locked(lock)

    assert {} == {name: (v, here[name]) for name, v in in_image.items() if name in here and here[name] != v}
