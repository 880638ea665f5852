"""The image as its file describes it: who it runs as, what it starts, what it pins."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "model_service"
TEXT = (SERVER / "Dockerfile").read_text()
FINAL = TEXT[TEXT.rindex("\nFROM ") :]


def test_runs_as_a_numbered_user_who_is_not_root() -> None:
    """Fargate and Security Hub see a number, and it is not 0."""
    assert ["10001:10001"] == re.findall(r"^USER (\S+)$", FINAL, re.MULTILINE)


def test_declares_the_volumes_of_the_task() -> None:
    """/models and /tmp are volumes, declared after they were given to the user."""
    assert 'VOLUME ["/models", "/tmp"]' in FINAL
    assert FINAL.index("chown 10001:10001 /tmp") < FINAL.index("VOLUME")


def test_starts_in_exec_form() -> None:
    """SIGTERM reaches Python and not a shell."""
    assert 'CMD ["python", "-m", "model_service"]' == TEXT.strip().splitlines()[-1]


def test_base_has_no_digest_that_nobody_resolved() -> None:
    """The default base is a tag; whoever builds for real names a digest with --build-arg BASE."""
    assert ["python:3.11-slim-bookworm"] == re.findall(r"^ARG BASE=(\S+)$", TEXT, re.MULTILINE)
    assert {"${BASE}"} == set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE))


def test_no_secret_ends_up_in_the_image() -> None:
    """The certificate authority and the index come by secret mounts, and only if they are given."""
    assert [] == re.findall(r"^(?:ARG|ENV) .*(?:CERT|TOKEN|PASSWORD|INDEX)", TEXT, re.MULTILINE)
    assert 2 == TEXT.count("--mount=type=secret")
    assert "if [ -s /run/ca.crt ]" in TEXT


def test_packages_are_installed_by_hash() -> None:
    """The lock carries a hash for every package, pins ONNX Runtime and uvicorn, and names no index."""
    lock = (SERVER / "requirements-cpu.lock").read_text()
    packages = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)(.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+)", lock, re.MULTILINE)

    assert "--require-hashes" in TEXT
    assert len(re.findall(r"^[A-Za-z]", lock, re.MULTILINE)) == len(packages)
    assert {"onnxruntime": "1.31.1", "uvicorn": "0.54.0"}.items() <= {
        name: version for name, version, _ in packages
    }.items()
    assert "http" not in lock.replace("httptools", "")


def test_pinned_packages_are_the_ones_asked_for() -> None:
    """Every package of requirements-cpu.in is in the lock."""
    asked = re.findall(r"^([a-z0-9-]+)", (SERVER / "requirements-cpu.in").read_text(), re.MULTILINE)
    lock = (SERVER / "requirements-cpu.lock").read_text()

    assert asked
    assert [] == [name for name in asked if f"\n{name}==" not in f"\n{lock}"]
