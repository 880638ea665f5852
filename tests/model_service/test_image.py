"""The image for the CPU, built and run by a real Docker as on ECS: how big it is, what it lacks, what it may use.

Skipped where no Docker answers or it lacks BuildKit. Where the default base image cannot be pulled, ONNXSHIP_TEST_BASE
names a Python base image that Docker has.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_service.runtime.cpus import available_cpus
from pipeline.building import docker, docker_settings
from pipeline.errors import ConfigError
from tests.model_service.conftest import REPOSITORY, START_DEADLINE_S, Reply, send, write_manifest

BASE = os.environ.get("ONNXSHIP_TEST_BASE", "python:3.11-slim-bookworm")
REFERENCE = "onnxship-test/model-service:cpu"
LIMIT_BYTES = 300_000_000
INSTALLERS = "pip pip3 apt apt-get dpkg dpkg-deb gcc cc g++ c++ clang tcc ld as make cmake go rustc uv conda npm"
READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready')"
# As the task definition has it: numeric user, read-only root, no capability.
CONFINED = ("--read-only", "--user", "10001:10001", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("image")]


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image of this checkout for the CPU."""
    try:
        docker.require_docker()
    except ConfigError as error:
        pytest.skip(f"{error.what} {error.remedy}")
    if not (succeeds("docker", "image", "inspect", BASE) or succeeds("docker", "pull", "--quiet", BASE)):
        pytest.skip(f"Docker has no {BASE} and cannot pull it; name another in ONNXSHIP_TEST_BASE")
    options = docker_settings.machine_options(os.environ)
    dockerfile = REPOSITORY / "model_service" / "Dockerfile"
    words = docker.ImageBuild(REPOSITORY, dockerfile, REFERENCE, {"BASE": BASE}, options, "cpu").words
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    command = ["docker", "build", *words, str(REPOSITORY)]
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert 0 == built.returncode, built.stderr[-3000:]
    yield REFERENCE
    said("docker", "image", "rm", REFERENCE)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes milliseconds: x [N, 512] through twenty layers."""
    weights = numpy_helper.from_array(np.eye(512, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"x{i + 1}"]) for i in range(20)]
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, ["N", 512])], [value("x20", TensorProto.FLOAT, ["N", 512])]
    inner = helper.make_graph(nodes, "layers", *ends, [weights])
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    directory = tmp_path_factory.mktemp("published")
    path = write_manifest(directory, model.SerializeToString(), name="layers")
    for entry in (directory.parent, directory, *directory.iterdir()):
        entry.chmod(0o755)
    return path


def size_bytes(reference: str) -> int:
    return int(said("docker", "image", "inspect", "--format", "{{.Size}}", reference))


@contextlib.contextmanager
def container(image: str, manifest: Path, *options: str) -> Iterator[str]:
    """A container that serves the model, confined as on ECS and with `options`, until it is ready."""
    mounted = ("--volume", f"{manifest.parent}:/published:ro")
    address = ("--env", f"MODEL_MANIFEST_URI=file:///published/{manifest.name}", "--publish", "127.0.0.1::8080")
    name = said("docker", "run", "--detach", *CONFINED, *mounted, *address, *options, image)
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not succeeds("docker", "exec", name, "python", "-c", READY):
            assert time.monotonic() < deadline, subprocess.run(["docker", "logs", name], capture_output=True).stdout
        yield name
    finally:
        said("docker", "rm", "--force", "--volumes", name)


def port_of(name: str) -> int:
    return int(said("docker", "port", name, "8080/tcp").splitlines()[0].rpartition(":")[2])


def ask(port: int, row: int) -> Reply:
    data = np.full((64, 512), row, np.float32).ravel().tolist()
    tensor = {"name": "x", "shape": [64, 512], "datatype": "FP32", "data": data}
    return send(port, "POST", "/v2/models/layers/infer", json.dumps({"inputs": [tensor]}).encode())


def threads_under_load(name: str) -> int:
    """Threads of the server after many requests at once."""
    port = port_of(name)
    with ThreadPoolExecutor(16) as pool:
        assert {200} == {reply.status for reply in pool.map(lambda row: ask(port, row), range(64))}
    status = said("docker", "exec", name, "cat", "/proc/1/status")
    return int(dict(line.split(":", 1) for line in status.splitlines())["Threads"])


def test_adds_less_than_300_mb_to_its_base(image: str) -> None:
    """Unpacked: Python's packages and the server, and nothing that only the build needs."""
    added = size_bytes(image) - size_bytes(BASE)
    assert 0 < added < LIMIT_BYTES


def test_holds_nothing_that_installs_or_compiles(image: str) -> None:
    """Whoever gets in finds neither a package manager nor a compiler; a scan still finds what the base holds."""
    found = said(
        "docker",
        "run",
        "--rm",
        image,
        "sh",
        "-c",
        f"for name in {INSTALLERS}; do command -v $name; done; true",
    )
    modules = "import importlib.util as u; print([m for m in ('pip', 'setuptools', 'ensurepip') if u.find_spec(m)])"
    database = said("docker", "run", "--rm", image, "sh", "-c", "test ! -d /var/lib/dpkg || cat /var/lib/dpkg/status")
    assert ("", "[]") == (found, said("docker", "run", "--rm", image, "python", "-c", modules))
    assert "Package: apt\n" not in database


def test_serves_with_a_read_only_root_and_no_capabilities(image: str, manifest: Path) -> None:
    """As user 10001 it writes to the two volumes and nowhere else, and its health check passes."""
    directories = "/ /app /opt/venv /etc /usr /var/tmp /root /models /tmp"
    writable = f'for d in {directories}; do touch $d/x 2> /dev/null && echo "$d"; done; true'
    with container(image, manifest) as name:
        answer = ask(port_of(name), row=3)
        assert (200, 3.0) == (answer.status, answer.json["outputs"][0]["data"][-1])
        assert ["/models", "/tmp"] == said("docker", "exec", name, "sh", "-c", writable).split()
        assert "10001" == said("docker", "exec", name, "id", "-u")
        assert succeeds("docker", "exec", name, "python", "-m", "model_service.health")


def test_uses_no_more_threads_than_the_quota_has_cpus(image: str, manifest: Path) -> None:
    """With one CPU one request is computed at a time, on one thread, however many CPUs the host has."""
    if available_cpus() < 2:
        pytest.skip("this machine has one CPU: a quota of one changes nothing")
    counted = "from model_service.runtime.cpus import available_cpus; print(available_cpus())"
    cpus, threads = [], []
    for quota in ("1", "2"):
        with container(image, manifest, "--cpus", quota) as name:
            cpus.append(said("docker", "exec", name, "python", "-c", counted))
            threads.append(threads_under_load(name))
    assert ["1", "2"] == cpus
    assert threads[0] < threads[1]


def test_rounds_a_fraction_of_a_cpu_up(image: str) -> None:
    """A quota of 1.5 CPUs is two threads' worth; a quarter is one."""
    counted = "from model_service.runtime.cpus import available_cpus, cpu_quota; print(cpu_quota(), available_cpus())"
    words = ("--entrypoint", "python", image, "-c", counted)
    assert "0.25 1" == said("docker", "run", "--rm", "--cpus", "0.25", *words)
    assert f"1.5 {min(2, available_cpus())}" == said("docker", "run", "--rm", "--cpus", "1.5", *words)
