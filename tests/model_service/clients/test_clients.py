"""The protocol's own clients against the real server: each in its own process, with an environment of its own."""

import json
from itertools import product
from typing import Any

import pytest

from tests.model_service.clients.conftest import ELEMENT_TYPES
from tests.model_service.clients.environments import run_client
from tests.model_service.conftest import Service

FORMS = ("binary", "json")
ENCODINGS = (None, "gzip", "deflate")
BF16_TO_JSON = "output `y`: JSON has no form for BF16; ask for binary tensor data"
REFUSALS = {
    "unknown model": ("404", "unknown model `zzz`"),
    "unknown version": ("404", "unknown version `zzz`; `adder` has"),
    "missing input": ("400", "missing input `b`"),
    "unknown input": ("400", "unknown input `c`; the model has `a`, `b`"),
    "sequence": ("400", "sequence_id is not supported"),
    "shared input": ("400", "shared_memory_region is not supported"),
    "unknown output": ("400", "unknown output `zzz`; the model has `sum`"),
    "datatype": ("400", "input `x` is INT64; the model wants FP32"),
    "shape": ("400", "input `x` has shape [1, 3]; the model wants [-1, 2]"),
    "rank": ("400", "input `x` has shape [2]; the model wants [-1, 2]"),
    "no rows": ("400", "input `x` is empty: shape [0, 2]"),
    "rows": ("400", "another input has 1 for `N`"),
    "deadline": ("504", "its deadline passed after"),
    "metadata": ("404", "unknown model `zzz`"),
    "load": ("404", "no such path: /v2/repository/models/zzz/load"),
    "shared memory": ("404", "no such path: /v2/systemsharedmemory/status"),
}

pytestmark = pytest.mark.timeout(900)  # an environment is made once


@pytest.fixture(scope="module", params=["triton_http.py", "triton_http_aio.py"], ids=["http", "http.aio"])
def triton(request: pytest.FixtureRequest, catalogue: Service) -> dict[str, Any]:
    """The facts that one of Triton's HTTP clients got."""
    facts: dict[str, Any] = json.loads(run_client("tritonclient-http", request.param, address(catalogue)))
    return facts


def address(service: Service, port: str = "port") -> str:
    return f"127.0.0.1:{service.ports[port]}"


def test_triton_s_clients_see_what_is_there(triton: dict[str, Any]) -> None:
    """Health by server, model and version, metadata, configuration and statistics."""
    known = {"live": True, "ready": True, "model": True, "version": True}
    assert known | {"unknown model": False, "unknown version": False} == triton["health"]
    assert {"binary_tensor_data", "classification", "model_configuration", "statistics"} <= set(
        triton["server"]["extensions"]
    )
    assert [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}] == triton["metadata"]["inputs"]
    assert [("x", "TYPE_FP32")] == [(one["name"], one["data_type"]) for one in triton["config"]]
    assert ["echo-FP32"] == triton["statistics"]


@pytest.mark.parametrize("datatype", ELEMENT_TYPES)
def test_triton_s_clients_carry_every_datatype(triton: dict[str, Any], datatype: str) -> None:
    """A tensor comes back bit for bit, sent and answered as bytes or as JSON, compressed or not."""
    expected = {f"{sent} to {wanted}, {how}": "same" for sent, wanted, how in product(FORMS, FORMS, ENCODINGS)}
    if datatype == "BF16":  # which numpy and JSON do not have: the client itself refuses to send it as JSON
        words = "BF16 inputs must be sent as binary data over HTTP. Please set binary_data=True"
        expected |= {name: BF16_TO_JSON for name in expected if name.startswith("binary to json")}
        expected |= {name: words for name in expected if name.startswith("json")}
    assert expected == triton["echoes"][datatype]


def test_triton_s_clients_read_nan_and_infinity(triton: dict[str, Any]) -> None:
    """They are exact as bytes, and null in JSON, which the client reads as NaN."""
    assert {
        "binary": True,
        "json": [None, None, None, 0.5],
        "read from json": [[True, True], [True, False]],
    } == triton["not_numbers"]


def test_triton_s_clients_say_more_than_tensors(triton: dict[str, Any]) -> None:
    """An id, a version, the wanted outputs, inputs in any order and either form, and parameters of every kind."""
    asked = {"id": "request-7", "version": True, "outputs": [["sum", [3.0, 3.0]]]}
    assert asked | {"all outputs": ["positive", "negative"]} == triton["request"]
    assert [[1.0, 2.0]] == triton["raw"]
    assert [[["4.000000:1"], ["9.000000:0"]]] * 2 == triton["classes"]
    assert [float(number) for number in range(32)] == triton["together"]


@pytest.mark.parametrize("what", REFUSALS)
def test_triton_s_clients_can_read_every_refusal(triton: dict[str, Any], what: str) -> None:
    """The client's exception has the server's own status and words, never a fault in decoding them."""
    status, words = REFUSALS[what]
    told = triton["refusals"][what]
    assert (status, True) == (told[0], words in told[1]), told


@pytest.fixture(scope="module")
def kserve(catalogue: Service) -> dict[str, Any]:
    """The facts that KServe's REST client got."""
    facts: dict[str, Any] = json.loads(run_client("kserve", "kserve_rest.py", address(catalogue)))
    return facts


@pytest.mark.long
def test_kserve_s_client_sees_what_is_there(kserve: dict[str, Any]) -> None:
    """It reads `ready` and `live` from the bodies, and a model's readiness from the status."""
    assert {"live": True, "ready": True, "model": True, "unknown model": False} == kserve["health"]


@pytest.mark.long
@pytest.mark.parametrize("datatype", [datatype for datatype in ELEMENT_TYPES if datatype != "BF16"])
def test_kserve_s_client_carries_every_datatype(kserve: dict[str, Any], datatype: str) -> None:
    """A tensor comes back bit for bit in both forms, in answers that its HTTP library asks to be compressed."""
    sent = [form for form in FORMS if (datatype, form) != ("FP16", "json")]
    assert {f"{one} to {other}": "same, gzip" for one, other in product(sent, FORMS)} == kserve["echoes"][datatype]


@pytest.mark.long
def test_kserve_s_client_says_more_than_tensors(kserve: dict[str, Any]) -> None:
    """Its id comes back, its unknown members are ignored, NaN and infinity are exact as bytes."""
    assert {"id": "request-7", "model": "adder", "sum": [3.0, 3.0]} == kserve["request"]
    assert kserve["not_numbers"]


@pytest.mark.long
@pytest.mark.parametrize("what", ["unknown model", "missing input", "unknown output", "datatype", "shape"])
def test_kserve_s_client_can_read_every_refusal(kserve: dict[str, Any], what: str) -> None:
    """Its exception has the server's own words."""
    expected = REFUSALS[what]
    if what == "datatype":
        expected = ("400", "input `x` is FP32; the model wants INT64")
    told = kserve["refusals"][what]
    assert (int(expected[0]), True) == (told[0], expected[1] in told[1]), told
