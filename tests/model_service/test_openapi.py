"""/openapi.json and /docs: complete and true, for every model that is served."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from openapi_spec_validator import validate

from tests.model_service.clients.environments import HERE, client_python
from tests.model_service.conftest import Launch, Service, addition, graph, identity, write_manifest

JSON = "application/json"


def two_inputs(a: list[Any], b: list[Any]) -> bytes:
    """y = the sum of all elements of both."""
    nodes = [
        helper.make_node("ReduceSum", ["a"], ["of_a"], keepdims=0),
        helper.make_node("ReduceSum", ["b"], ["of_b"], keepdims=0),
        helper.make_node("Add", ["of_a", "of_b"], ["y"]),
    ]
    inputs = {"a": (TensorProto.FLOAT, a), "b": (TensorProto.FLOAT, b)}
    return graph(nodes, inputs, {"y": (TensorProto.FLOAT, [])})


@pytest.fixture(scope="module")
def several(launch: Launch, tmp_path_factory: pytest.TempPathFactory, digits_manifest: Path) -> Service:
    """Models of very different signatures at once."""
    directory = tmp_path_factory.mktemp("several")
    scalar = graph(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (TensorProto.INT64, [])}, {"y": (TensorProto.INT64, [])}
    )
    models = {
        "adder": addition(),
        "strings": identity(TensorProto.STRING, [None, 3]),
        "halves": identity(TensorProto.BFLOAT16, ["N"]),
        "pairs": identity(TensorProto.UINT8, [2, 3]),
        "three": identity(TensorProto.FLOAT, [3]),
        "three_of_any": two_inputs(["N"], [3]),
        "three_or_two": two_inputs([3], [2]),
        "scalar": scalar,
    }
    for name, model in models.items():
        write_manifest(directory / name, model, name=name)
    (directory / "digits").symlink_to(digits_manifest.parent)
    return launch("", MODEL_REPOSITORY_URI=directory.as_uri(), MAX_ROWS="100").wait_ready()


@pytest.fixture(scope="module")
def document(several: Service) -> dict[str, Any]:
    found: dict[str, Any] = several.get("/openapi.json").json
    return found


def test_is_valid_and_names_every_path(document: dict[str, Any]) -> None:
    """The document is OpenAPI 3.1 by its own schema; each model has its paths, with and without a version."""
    validate(document)
    for model in ("adder", "strings", "pairs", "digits"):
        for base in (f"/v2/models/{model}", f"/v2/models/{model}/versions/{{version}}"):
            of_model = {base, f"{base}/ready", f"{base}/stats", f"{base}/config", f"{base}/infer", f"{base}/predict"}
            assert of_model <= set(document["paths"])
    assert {"/predict", "/v2", "/v2/health/live", "/v2/health/ready"} <= set(document["paths"])


def test_every_example_can_be_sent(several: Service, document: dict[str, Any]) -> None:
    """The example of each model's /infer and /predict is answered, and each GET is answered as its example is."""
    sent = []
    for path, item in document["paths"].items():
        versions = [parameter["example"] for parameter in item.get("parameters", [])]
        address = path.replace("{version}", *versions) if versions else path
        content = item.get("post", {}).get("requestBody", {}).get("content", {}).get(JSON, {})
        if "example" in content:
            reply = several.post(address, content["example"])
            assert 200 == reply.status, (path, reply.body)
            sent.append(path)
        if "get" in item:
            assert (
                several.get(address).json.keys() == item["get"]["responses"]["200"]["content"][JSON]["example"].keys()
            )
    for model in ("adder", "strings", "pairs", "digits", "three", "three_of_any"):
        assert {f"/v2/models/{model}/infer", f"/v2/models/{model}/predict"} <= set(sent)
    assert {"/v2/models/scalar/infer", "/v2/models/three_or_two/infer"} <= set(sent)
    assert {"/v2/models/scalar/predict", "/v2/models/three_or_two/predict"}.isdisjoint(document["paths"])


def test_sends_inputs_of_different_heights_elsewhere(several: Service) -> None:
    """Inputs of three rows and of two have none in common: /predict, which is not described, says where to ask."""
    reply = several.post("/v2/models/three_or_two/predict", {"inputs": [{"a": 1, "b": 1}] * 3})
    words = "inputs have 3 rows and 2; send this model's requests to /v2/models/three_or_two/infer"
    assert (400, {"error": words}) == (reply.status, reply.json)


def test_leaves_out_what_json_cannot_hold(document: dict[str, Any]) -> None:
    """BF16 has bytes alone, and neither it nor a scalar has rows for /predict."""
    of_halves = document["paths"]["/v2/models/halves/infer"]["post"]["requestBody"]["content"]
    assert ["application/octet-stream"] == list(of_halves)
    assert {"/v2/models/halves/predict", "/v2/models/scalar/predict"}.isdisjoint(document["paths"])


def test_says_what_a_tensor_may_be(document: dict[str, Any]) -> None:
    """Names, datatypes, shapes and the range of an element are the model's own, rows the server's."""
    schema = document["paths"]["/v2/models/pairs/infer"]["post"]["requestBody"]["content"][JSON]["schema"]
    tensor = schema["properties"]["inputs"]["items"]["properties"]
    assert [{"const": 2}, {"const": 3}] == tensor["shape"]["prefixItems"]
    assert {"type": "integer", "minimum": 0, "maximum": 255} == tensor["data"]["anyOf"][0]["items"]
    rows = document["paths"]["/predict"]["post"]["requestBody"]["content"][JSON]["schema"]["properties"]["inputs"]
    assert (1, 100) == (rows["minItems"], rows["maxItems"])


def test_tells_of_the_keys_that_are_asked_for(launch: Launch, tmp_path: Path) -> None:
    """With API keys every operation but health says that it needs one, and answers 401 or 403 without."""
    digest = hashlib.sha256(b"k-app").hexdigest()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"id": "app", "sha256": digest, "scopes": ["infer"]}]}))
    service = launch(write_manifest(tmp_path / "m", addition()), API_KEYS_FILE=str(keys)).wait_ready()
    guarded = service.request("GET", "/openapi.json", None, {"X-Api-Key": "k-app"}).json
    validate(guarded)
    assert {"bearer", "key"} == set(guarded["components"]["securitySchemes"])
    assert [] == guarded["paths"]["/v2/health/ready"]["get"]["security"]
    for path, method in (("/v2", "get"), ("/predict", "post"), ("/v2/models/tiny/infer", "post")):
        assert {"401", "403"} <= guarded["paths"][path][method]["responses"].keys()
        assert "security" not in guarded["paths"][path][method]  # the document's own holds
    assert 0 == service.stop()


@pytest.mark.long
@pytest.mark.timeout(900)  # an environment is made once
def test_schemathesis_finds_nothing(digits: Service, tmp_path: Path) -> None:
    """What the document allows is taken, what it forbids is refused, and every answer is as it says."""
    command = [
        *(str(client_python("schemathesis")), "-m", "schemathesis.cli"),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"http://127.0.0.1:{digits.ports['port']}/openapi.json"),
        *("--max-examples", "40", "--seed", "1", "--no-color"),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    told = "\n".join(line[:500] for line in (ended.stdout + ended.stderr).splitlines())  # it prints whole bodies
    assert 0 == ended.returncode, told
