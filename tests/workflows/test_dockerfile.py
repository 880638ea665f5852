"""The image as its files describe it: who it runs as, what it starts, what it pins."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "model_service"
TEXT = (SERVER / "Dockerfile").read_text()
STAGES = {
    name: (base, body)
    for base, name, body in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
RUNTIME = STAGES["runtime"][1]
TARGETS = ("cpu", "gpu")


def packages(device: str) -> dict[str, str]:
    """Name and version of every package of a lock file that has hashes."""
    lock = (SERVER / f"requirements-{device}.lock").read_text()
    found = re.findall(r"^([a-z0-9_.-]+)==(\S+).*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", lock, re.MULTILINE)
    assert len(re.findall(r"^[A-Za-z]", lock, re.MULTILINE)) == len(found)
    return dict(found)


def asked(device: str) -> set[str]:
    """What a requirements-*.in asks for, without its extras and version."""
    return set(re.findall(r"^([a-z0-9-]+)", (SERVER / f"requirements-{device}.in").read_text(), re.MULTILINE))


def test_runs_as_a_numbered_user_who_is_not_root() -> None:
    """Fargate and Security Hub see a number, and it is not 0; no later stage takes it back."""
    assert ["10001:10001"] == re.findall(r"^USER (\S+)$", TEXT, re.MULTILINE)
    assert "USER" in RUNTIME


def test_declares_the_volumes_of_the_task() -> None:
    """/models and /tmp are volumes, declared after they were given to the user."""
    assert 'VOLUME ["/models", "/tmp"]' in RUNTIME
    assert RUNTIME.index("chown 10001:10001 /tmp") < RUNTIME.index("VOLUME")


def test_starts_in_exec_form() -> None:
    """SIGTERM reaches Python and not a shell."""
    assert ['["python", "-m", "model_service"]'] == re.findall(r"^CMD (.*)$", TEXT, re.MULTILINE)


def test_both_targets_are_the_same_but_for_packages_and_device() -> None:
    """The CPU's image is what is built when nothing is said; only the GPU's asks for the driver."""
    without_device = re.sub(r"^(#|ENV DEVICE|    NVIDIA_).*\n", "", STAGES["gpu"][1], flags=re.MULTILINE)

    assert "cpu" == list(STAGES)[-1]
    assert {"runtime"} == {STAGES[target][0] for target in TARGETS}
    assert STAGES["cpu"][1].replace("-cpu", "-gpu").strip() == without_device.strip()
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in STAGES["gpu"][1]


def test_base_has_no_digest_that_nobody_resolved() -> None:
    """The default base is a tag; whoever builds for real names a digest with --build-arg BASE."""
    assert ["python:3.11-slim-bookworm"] == re.findall(r"^ARG BASE=(\S+)$", TEXT, re.MULTILINE)
    assert {"${BASE}"} == {base for base, _ in STAGES.values()} - set(STAGES)


def test_no_secret_ends_up_in_the_image() -> None:
    """The certificate authority and the index come by secret mounts, and only if they are given."""
    assert [] == re.findall(r"^(?:ARG|ENV) .*(?:CERT|TOKEN|PASSWORD|INDEX)", TEXT, re.MULTILINE)
    assert [2, 2] == [STAGES[f"packages-{target}"][1].count("--mount=type=secret") for target in TARGETS]
    assert "if [ -s /run/ca.crt ]" in (SERVER / "install_packages.sh").read_text()


@pytest.mark.parametrize("device", TARGETS)
def test_packages_are_installed_by_hash(device: str) -> None:
    """The lock carries a hash for every package, pins ONNX Runtime and uvicorn, and names no index."""
    lock = (SERVER / f"requirements-{device}.lock").read_text()
    runtime = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}[device]

    assert "--require-hashes" in (SERVER / "install_packages.sh").read_text()
    assert {runtime: "1.31.1", "uvicorn": "0.54.0"}.items() <= packages(device).items()
    assert "http" not in lock.replace("httptools", "")


@pytest.mark.parametrize("device", TARGETS)
def test_pinned_packages_are_the_ones_asked_for(device: str) -> None:
    """Every package of requirements-*.in is in the lock."""
    assert asked(device)
    assert set() == asked(device) - set(packages(device))


def test_the_gpu_has_the_cpus_packages_and_cuda() -> None:
    """The two images differ in ONNX Runtime and NVIDIA's libraries, cuBLAS among them, and in no version else."""
    cpu, gpu = packages("cpu"), packages("gpu")
    nvidia = {name for name in gpu if name.startswith("nvidia-")}

    assert asked("cpu") - {"onnxruntime"} == asked("gpu") - {"onnxruntime-gpu"} - nvidia
    assert {n: v for n, v in cpu.items() if n != "onnxruntime"} == {
        n: v for n, v in gpu.items() if n != "onnxruntime-gpu" and n not in nvidia
    }
    assert {"nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"} < nvidia
