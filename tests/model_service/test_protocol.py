"""The Open Inference Protocol over real HTTP, as its clients speak it: raw JSON without a Content-Type."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.model_service.conftest import REPOSITORY, Launch, Service, graph, identity, write_manifest


def tensor(data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": data} | changes


def infer(service: Service, model: str, *inputs: dict[str, Any], **members: Any) -> Any:
    reply = service.post(f"/v2/models/{model}/infer", {"inputs": list(inputs), **members})
    assert reply.status == 200, reply.body
    return reply.json


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"x": [[NaN]], "inputs": []}', "JSON has no NaN and no Infinity, binary tensors have"),
        (b'{"x": [[-Infinity]], "inputs": []}', "JSON has no NaN and no Infinity, binary tensors have"),
        (b'{"x": [[1, 2', "its JSON is truncated"),
        (b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "its JSON is nested too deeply"),
        (
            b'{"inputs": [], "a": {"binary_data_size": 4}}\0\0\0\0',
            "need the header Inference-Header-Content-Length, the JSON's length",
        ),
    ],
)
def test_says_what_commonly_breaks_a_body(digits: Service, path: str, body: bytes, words: str) -> None:
    """What other programs write though it is not JSON is told in words that help."""
    reply = digits.post(path, body)

    assert 400 == reply.status
    assert words in reply.json["error"]


def test_answers_health_and_metadata(digits: Service) -> None:
    """Live, ready, server and model metadata answer as the specification (and KServe's client) wants them."""
    assert {"live": True} == digits.get("/v2/health/live").json
    assert {"live": True, "ready": True} == digits.get("/v2/health/ready").json
    assert {"name", "version", "extensions"} == set(digits.get("/v2/").json) == set(digits.get("/v2").json)
    assert {"name": "digits", "ready": True} == digits.get("/v2/models/digits/ready").json
    metadata = digits.get("/v2/models/digits").json
    version = metadata.pop("versions")[0]
    runs_on = {"device": "cpu", "provider": "CPUExecutionProvider", "onnxruntime_version": onnxruntime.__version__}
    assert {
        "name": "digits",
        "platform": "onnx_onnxv1",
        "parameters": runs_on,
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    } == metadata
    assert digits.get(f"/v2/models/digits/versions/{version}").status == 200
    assert digits.get(f"/v2/models/digits/versions/{version}/ready").status == 200


def test_gives_onnx_runtime_s_own_answers(digits: Service, digits_manifest: Path, digits_rows: np.ndarray) -> None:
    """Served answers are exactly those of ONNX Runtime, row for row, flat and nested alike."""
    session = onnxruntime.InferenceSession(digits_manifest.with_name("model.onnx"), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"X": digits_rows})
    flat, nested = digits_rows.reshape(-1).tolist(), digits_rows.tolist()
    for data in (flat, nested):
        outputs = infer(digits, "digits", tensor(data, shape=[32, 64]))["outputs"]
        assert labels.tolist() == outputs[0]["data"]
        assert [32, 10] == outputs[1]["shape"]
        assert np.array_equal(probabilities.reshape(-1), np.array(outputs[1]["data"], np.float32))


def test_returns_the_id_and_the_chosen_outputs(digits: Service) -> None:
    """A request's id comes back, only the named outputs are sent, and unknown members are ignored."""
    answer = infer(
        digits,
        "digits",
        tensor([0.0] * 64),
        id="request-7",
        outputs=[{"name": "probabilities", "parameters": {"binary_data": False}}],
        model_name="digits",
        parameters={"binary_data_output": True, "priority": 1},
    )
    assert "request-7" == answer["id"]
    assert ["probabilities"] == [output["name"] for output in answer["outputs"]]
    assert "id" not in infer(digits, "digits", tensor([0.0] * 64))


def test_gives_each_output_once(adder: Service) -> None:
    """An output that is asked for many times comes once: no answer grows with the words of a request."""
    inputs = [{"name": name, "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} for name in "ab"]
    reply = adder.post("/v2/models/adder/infer", {"inputs": inputs, "outputs": [{"name": "sum"}] * 1000})
    assert ["sum"] == [output["name"] for output in reply.json["outputs"]]


def test_takes_the_version_in_the_path(digits: Service) -> None:
    """The version of the metadata can be named; another one is not found."""
    version = digits.get("/v2/models/digits").json["versions"][0]
    body = {"inputs": [tensor([0.0] * 64)]}
    assert digits.post(f"/v2/models/digits/versions/{version}/infer", body).json["model_version"] == version
    assert digits.post("/v2/models/digits/versions/1/infer", body).status == 404


def test_takes_several_inputs(adder: Service) -> None:
    """Inputs are matched by name, in any order."""
    b = tensor([10.0, 20.0], name="b", shape=[1, 2])
    a = tensor([1.0, 2.0], name="a", shape=[1, 2])
    assert [11.0, 22.0] == infer(adder, "adder", b, a)["outputs"][0]["data"]


@pytest.mark.parametrize(
    ("kind", "datatype", "data"),
    [
        (TensorProto.STRING, "BYTES", ["grün", "", 'a "quoted"\nline']),
        (TensorProto.BOOL, "BOOL", [True, False]),
        (TensorProto.FLOAT16, "FP16", [0.5, -65504.0]),
        (TensorProto.DOUBLE, "FP64", [1e300, 0.1]),
        (TensorProto.UINT64, "UINT64", [2**64 - 1, 0]),
        (TensorProto.INT8, "INT8", [-128, 127]),
    ],
)
def test_carries_every_kind_of_datatype(
    launch: Launch, tmp_path: Path, kind: int, datatype: str, data: list[Any]
) -> None:
    """Strings, booleans, half and double floats and whole numbers go through a served model unchanged."""
    service = launch(write_manifest(tmp_path, identity(kind, [None]))).wait_ready()
    given = tensor(data, name="x", datatype=datatype, shape=[len(data)])
    assert data == infer(service, "tiny", given)["outputs"][0]["data"]
    assert service.stop() == 0


def test_writes_nan_and_infinity_as_null(launch: Launch, tmp_path: Path) -> None:
    """JSON has no NaN and no infinity: the answer stays valid JSON, with null in their place."""
    shape = {"x": (TensorProto.FLOAT, [None])}
    model = graph([helper.make_node("Log", ["x"], ["y"])], shape, {"y": (TensorProto.FLOAT, [None])})
    service = launch(write_manifest(tmp_path, model)).wait_ready()
    outputs = infer(service, "tiny", tensor([-1.0, 0.0, 1.0], name="x", shape=[3]))["outputs"]
    assert [None, None, 0.0] == outputs[0]["data"]


def test_answers_with_the_classes_of_an_output(launch: Launch, tmp_path: Path) -> None:
    """`classification` gives the highest elements of each row, as `image_client` reads them: value, index, label."""
    predict = {"probabilities": "y", "labels": ["cat", "dog", "owl"]}
    model = identity(TensorProto.FLOAT, [None, 3])
    service = launch(write_manifest(tmp_path, model, predict=predict)).wait_ready()
    rows = tensor([0.25, 0.5, 0.25, 9.0, 8.0, 7.0], name="x", shape=[2, 3])
    outputs = [{"name": "y", "parameters": {"classification": 2}}]
    expected = ["0.500000:1:dog", "0.250000:0:cat", "9.000000:0:cat", "8.000000:1:dog"]
    answered = {"name": "y", "datatype": "BYTES", "shape": [2, 2], "data": expected}
    assert [answered] == infer(service, "tiny", rows, outputs=outputs)["outputs"]
    all_of_them = [{"name": "y", "parameters": {"classification": 9}}]
    assert [2, 3] == infer(service, "tiny", rows, outputs=all_of_them)["outputs"][0]["shape"]


def test_strings_have_no_classes(launch: Launch, tmp_path: Path) -> None:
    """`classification` of an output without numbers is refused."""
    service = launch(write_manifest(tmp_path, identity(TensorProto.STRING, [None]))).wait_ready()
    given = tensor(["a"], name="x", datatype="BYTES", shape=[1])
    outputs = [{"name": "y", "parameters": {"classification": 1}}]
    reply = service.post("/v2/models/tiny/infer", {"inputs": [given], "outputs": outputs})
    assert (400, {"error": "output `y` is BYTES: `classification` needs numbers"}) == (reply.status, reply.json)


ROW = [0.0] * 64
SHARED = {"shared_memory_region": "region", "shared_memory_byte_size": 256}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`"),
        (b"[" * 50000, "the body cannot be used"),
        ({}, "missing required field `inputs`"),
        ({"inputs": {}}, "Expected `array`"),
        ({"inputs": []}, "missing input `X`"),
        ({"inputs": [tensor(ROW, name="Z")]}, "unknown input `Z`; the model has `X`"),
        ({"inputs": [tensor(ROW), tensor(ROW)]}, "an input is given twice"),
        ({"inputs": [tensor(ROW, datatype="FP64")]}, "input `X` is FP64; the model wants FP32"),
        ({"inputs": [tensor(ROW, datatype="FLOAT")]}, "input `X` is FLOAT; the model wants FP32"),
        ({"inputs": [tensor(ROW, shape=[64])]}, "has shape [64]; the model wants [-1, 64]"),
        ({"inputs": [tensor(ROW, shape=[1, 65])]}, "has shape [1, 65]; the model wants [-1, 64]"),
        ({"inputs": [tensor([], shape=[0, 64])]}, "input `X` is empty: shape [0, 64]"),
        ({"inputs": [tensor(ROW, shape=[-1, 64])]}, "$.inputs[0].shape[0]"),
        ({"inputs": [tensor(ROW, shape="1,64")]}, "$.inputs[0].shape"),
        ({"inputs": [tensor(ROW, shape=[2, 64])]}, "has 64 elements, but its shape is [2, 64]"),
        ({"inputs": [tensor(ROW, shape=[101, 64])]}, "has 101 rows; at most 100 are taken at once"),
        ({"inputs": [tensor([*ROW[:-1], "a"])]}, "Expected `float`, got `str` - at `$[63]`"),
        ({"inputs": [tensor(None)]}, "Expected `array`, got `null`"),
        ({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64]}]}, "input `X` has no `data`"),
        ({"inputs": [tensor(ROW, parameters={"binary_data_size": 256})]}, "has both `data` and `binary_data_size`"),
        ({"inputs": [tensor(ROW)], "outputs": [{"name": "zzz"}]}, "unknown output `zzz`; the model has `label`"),
        (
            {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "parameters": SHARED}]},
            "shared_memory_region is not supported: send the data with the request - at `$.inputs[0].parameters`",
        ),
        (
            {"inputs": [tensor(ROW)], "outputs": [{"name": "label", "parameters": SHARED}]},
            "shared_memory_region is not supported",
        ),
        ({"inputs": [tensor(ROW)], "parameters": {"sequence_id": 3}}, "sequence_id is not supported"),
        ({"inputs": [tensor(ROW)], "parameters": {"sequence_id": "mine"}}, "sequence_id is not supported"),
        ({"inputs": [tensor(ROW)], "id": 7}, "Expected `str | null`, got `int` - at `$.id`"),
    ],
)
def test_refuses_malformed_requests(digits: Service, body: Any, words: str) -> None:
    """Whatever is wrong with a request is answered with 400 and {"error"} that names it."""
    reply = digits.post("/v2/models/digits/infer", body)
    assert (400, ["error"]) == (reply.status, list(reply.json))
    assert words in reply.json["error"]


def test_refuses_rows_that_do_not_match(adder: Service) -> None:
    """Two inputs with different numbers of rows are the caller's mistake, found before the model runs."""
    a = tensor([1.0] * 6, name="a", shape=[3, 2])
    b = tensor([1.0] * 4, name="b", shape=[2, 2])
    reply = adder.post("/v2/models/adder/infer", {"inputs": [a, b]})
    assert reply.status == 400
    assert "another input has 3 for `N`" in reply.json["error"]


def test_does_not_know_other_models(digits: Service) -> None:
    """Another model's name is 404 on every path of a model."""
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
        reply = digits.request(method, f"/v2/models/other{path}")
        assert (404, {"error": "unknown model `other`; this server has `digits`"}) == (reply.status, reply.json)


TOGETHER = """
import sys, threading
from model_service.inference.protocol import decode_request

def ask():
    barrier.wait()
    decode_request(body)

body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": [{"name": "y"}]}'
barrier = threading.Barrier(16)
threads = [threading.Thread(target=ask) for _ in range(16)]
sys.setswitchinterval(1e-6)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_requests_may_come_all_at_once() -> None:
    """They are read in several threads, and nothing that the first one makes for the others may be half made for them:
    msgspec's decoders were, and ended the process in most of such starts."""
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", TOGETHER], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert (0, "") == (ended.returncode, ended.stderr)
