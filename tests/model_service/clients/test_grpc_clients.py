"""The protocol's gRPC clients against the real server, each in its own process and environment."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_service.settings import READERS
from tests.model_service.clients.conftest import ELEMENT_TYPES
from tests.model_service.clients.environments import run_client
from tests.model_service.conftest import Launch, Service

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),  # an environment is made once
    pytest.mark.skipif("grpc_port" not in READERS, reason="this server has no GRPC_PORT"),
]

REFUSALS = {
    "unknown model": ("StatusCode.NOT_FOUND", "unknown model `zzz`"),
    "unknown version": ("StatusCode.NOT_FOUND", "unknown version `zzz`; `adder` has"),
    "missing input": ("StatusCode.INVALID_ARGUMENT", "missing input `b`"),
    "sequence": ("StatusCode.INVALID_ARGUMENT", "sequence_id is not supported"),
    "shared input": ("StatusCode.INVALID_ARGUMENT", "shared_memory_region is not supported"),
    "unknown output": ("StatusCode.INVALID_ARGUMENT", "unknown output `zzz`; the model has `sum`"),
    "datatype": ("StatusCode.INVALID_ARGUMENT", "input `x` is INT64; the model wants FP32"),
    "shape": ("StatusCode.INVALID_ARGUMENT", "input `x` has shape [1, 3]; the model wants [-1, 2]"),
    "no rows": ("StatusCode.INVALID_ARGUMENT", "input `x` is empty: shape [0, 2]"),
    "metadata": ("StatusCode.NOT_FOUND", "unknown model `zzz`"),
    "shared memory": ("StatusCode.UNIMPLEMENTED", ""),
}


@pytest.fixture(scope="module")
def grpc_catalogue(launch: Launch, catalogue_directory: Path) -> Service:
    """The repository, served by gRPC too."""
    return launch("", MODEL_REPOSITORY_URI=catalogue_directory.as_uri(), GRPC_PORT="0").wait_ready()


def talk(client: str, program: str, service: Service) -> dict[str, Any]:
    line = next(line for line in service.log() if "grpc_port" in line)
    facts: dict[str, Any] = json.loads(run_client(client, program, f"127.0.0.1:{line['grpc_port']}"))
    return facts


@pytest.fixture(scope="module")
def triton(grpc_catalogue: Service) -> dict[str, Any]:
    """The facts that Triton's gRPC client got."""
    return talk("tritonclient-grpc", "triton_grpc.py", grpc_catalogue)


@pytest.fixture(scope="module")
def kserve(grpc_catalogue: Service) -> dict[str, Any]:
    """The facts that KServe's gRPC client got."""
    return talk("kserve", "kserve_grpc.py", grpc_catalogue)


def test_triton_s_client_sees_what_is_there(triton: dict[str, Any]) -> None:
    """Health by server, model and version, and metadata."""
    assert {"live": True, "ready": True, "model": True, "version": True} == triton["health"]
    assert ("onnxship-model-service", ["classification"]) == (triton["server"]["name"], triton["server"]["extensions"])
    assert [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}] == triton["metadata"]["inputs"]


def test_triton_s_client_carries_every_datatype(triton: dict[str, Any]) -> None:
    """A tensor comes back bit for bit, BF16, NaN and infinity too, in compressed messages as well."""
    assert dict.fromkeys(ELEMENT_TYPES, "same") == triton["echoes"]
    assert ["same", "same"] == triton["compressed"]
    assert triton["not_numbers"]


def test_triton_s_client_says_more_than_tensors(triton: dict[str, Any]) -> None:
    """An id, a version, the wanted outputs, inputs in any order, and parameters of every kind."""
    asked = {"id": "request-7", "version": True, "sum": [[3.0, 3.0]]}
    assert asked | {"all outputs": ["positive", "negative"]} == triton["request"]
    assert [["4.000000:1"], ["9.000000:0"]] == triton["classes"]


@pytest.mark.parametrize("what", REFUSALS)
def test_triton_s_client_can_read_every_refusal(triton: dict[str, Any], what: str) -> None:
    """The client's exception has the status code and the server's own words."""
    status, words = REFUSALS[what]
    told = triton["refusals"][what]
    assert (status, True) == (told[0], words in told[1]), told


def test_kserve_s_client_is_answered(kserve: dict[str, Any]) -> None:
    """Health, and tensors of every datatype, as raw bytes and in the messages' typed members."""
    assert [True, True, True] == kserve["health"]
    known = [datatype for datatype in ELEMENT_TYPES if datatype != "BF16"]
    assert dict.fromkeys(known, "same") == kserve["raw"]
    assert {datatype: "same" for datatype in known if datatype != "FP16"} == kserve["typed"]
    assert "INVALID_ARGUMENT" == kserve["refused"][0]
    assert "missing input `b`" in kserve["refused"][1]
