"""The GPU's ONNX Runtime, as its lock file has it, on a machine without a GPU: nothing is served from the wrong device.

The packages (250 MB) are fetched once and stay under build/. Without a way to fetch them the tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from model_service.runtime import cuda
from tests.model_service.conftest import REPOSITORY, START_DEADLINE_S, Service, addition, write_manifest

LOCK = REPOSITORY / "model_service" / "requirements-gpu.lock"
BUILD = REPOSITORY / "build" / "gpu-wheel"
LEFT_OUT = r"nvidia-(?!cuda-runtime)"  # 2 GB; without a driver none of it would be reached
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("gpu_wheel")]


@pytest.fixture(scope="module")
def packages() -> Path:
    """A directory with the lock's packages, in which ONNX Runtime is the GPU's."""
    if cuda.has_driver():
        pytest.skip("this machine has an NVIDIA driver: nothing falls back here")
    lock = locked()
    directory = BUILD / f"{hashlib.sha256(lock.encode()).hexdigest()[:12]}-{sys.implementation.cache_tag}"
    if not directory.exists():
        wheels = download()
        install(lock, wheels, directory)
    return directory


def locked() -> str:
    """The lock's entries, each with its hashes, without most of CUDA."""
    entries = re.findall(r"^[a-z].*\n(?:    --hash.*\n?)+", LOCK.read_text(), re.MULTILINE)
    return "".join(entry for entry in entries if not re.match(LEFT_OUT, entry))


def download() -> Path:
    wheels = BUILD / "wheels"
    [wanted] = re.findall(r"^onnxruntime-gpu==[0-9.]+", LOCK.read_text(), re.MULTILINE)
    fetched = subprocess.run([*PIP, "download", "--no-deps", "--dest", wheels, wanted], capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"pip cannot fetch {wanted}: {fetched.stderr.strip().splitlines()[-1]}")
    return wheels


def install(lock: str, wheels: Path, directory: Path) -> None:
    """Into a directory beside the last one, which takes its name when all is there."""
    unfinished = Path(tempfile.mkdtemp(dir=BUILD))
    (unfinished / "requirements.lock").write_text(lock)
    options = ("--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:", "--find-links", wheels)
    target = ("--target", unfinished / "packages", "--requirement", unfinished / "requirements.lock")
    installed = subprocess.run([*PIP, "install", *options, *target], capture_output=True, text=True)
    assert 0 == installed.returncode, installed.stderr
    try:
        (unfinished / "packages").rename(directory)
    except OSError:
        if not directory.is_dir():  # else another worker was first
            raise
    shutil.rmtree(unfinished)


def python(packages: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """A Python that has these packages and no others."""
    path = os.pathsep.join([str(packages), str(REPOSITORY)])
    return subprocess.Popen(
        [sys.executable, "-S", "-s", *words],
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def serve(packages: Path, directory: Path, device: str) -> subprocess.Popen[str]:
    manifest = write_manifest(directory, addition(), name="adder")
    settings = {"MODEL_MANIFEST_URI": manifest.as_uri(), "MODEL_DIR": str(directory / "models"), "DRAIN_S": "0"}
    address = {"BIND_HOST": "127.0.0.1", "PORT": "0", "ADMIN_PORT": "0"}
    return python(packages, "-m", "model_service", DEVICE=device, **settings, **address)


def test_what_it_says_of_itself_is_no_proof(packages: Path) -> None:
    """The wheel lists CUDA and calls the device a GPU, on this very machine: only the session tells."""
    asked = "o.package_name, o.get_available_providers(), o.get_device()"
    code = f"import json, onnxruntime as o; print(json.dumps([{asked}]))"
    output, _ = python(packages, "-c", code).communicate(timeout=START_DEADLINE_S)
    name, providers, device = json.loads(output.splitlines()[-1])
    assert ("onnxruntime-gpu", "GPU") == (name, device)
    assert "CUDAExecutionProvider" in providers


def test_refuses_to_serve_from_the_cpu_instead(packages: Path, tmp_path: Path) -> None:
    """DEVICE=cuda ends with exit status 1, and the log names the provider that ONNX Runtime really runs."""
    process = serve(packages, tmp_path, "cuda")
    output, _ = process.communicate(timeout=START_DEADLINE_S)
    said = [json.loads(line) for line in output.splitlines()]
    assert 1 == process.returncode
    assert "critical" == said[-1]["level"]
    refusal = "DEVICE=cuda, but ONNX Runtime runs model.onnx on CPUExecutionProvider"
    assert f"{refusal}: there is no NVIDIA driver here (libcuda.so.1)" in said[-1]["message"]


def test_serves_from_the_cpu_when_that_is_asked_for(packages: Path, tmp_path: Path) -> None:
    """The same packages serve with DEVICE=cpu: it is the missing GPU that is refused, and nothing else is wrong."""
    log_path = tmp_path / "log"
    process = serve(packages, tmp_path / "model", "cpu")
    try:
        assert process.stdout
        with log_path.open("w") as log:
            line = ""
            while "listening" not in line:
                line = process.stdout.readline()
                log.write(line)
        service = Service(process, log_path).wait_ready()
        rows = {"shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
        answer = service.post("/v2/models/adder/infer", {"inputs": [{"name": n, **rows} for n in ("a", "b")]})
        assert [2.0, 4.0] == answer.json["outputs"][0]["data"]
    finally:
        process.kill()
        process.communicate()


def test_reads_the_version_of_cuda_from_its_library(packages: Path) -> None:
    """NVIDIA's own libcudart answers, once it is loaded, and not before."""
    code = (
        "import ctypes, sys; from model_service.runtime import cuda; before = cuda.runtime_version('13'); "
        "ctypes.CDLL(sys.argv[1]); print(before, cuda.runtime_version('13'))"
    )
    [library] = packages.glob("nvidia/cu13/lib/libcudart.so.13")
    output, _ = python(packages, "-c", code, str(library)).communicate(timeout=START_DEADLINE_S)
    assert "None 13.0" == output.strip()
