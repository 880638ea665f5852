"""/predict over real HTTP: rows in, predictions out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.model_service.conftest import Launch, Service, graph, identity, write_manifest


def test_predicts_one_row(digits: Service, digits_rows: np.ndarray) -> None:
    """One row gives its label, the highest probability, the time it took, and which model said so."""
    reply = digits.post("/predict", {"input": digits_rows[0].tolist()})
    version = digits.get("/v2/models/digits").json["versions"][0]
    assert reply.status == 200
    assert ["prediction", "confidence", "processing_time_ms", "model", "version"] == list(reply.json)
    assert (0, "digits", version) == (reply.json["prediction"], reply.json["model"], reply.json["version"])
    assert 0.5 < reply.json["confidence"] <= 1
    assert 0 < reply.json["processing_time_ms"] < 10_000


def test_predicts_several_rows_as_one_by_one(digits: Service, digits_rows: np.ndarray) -> None:
    """Several rows at once give what they give alone, in their order."""
    rows = digits_rows[:5].tolist()
    together = digits.post("/predict", {"inputs": rows}).json
    alone = [digits.post("/predict", {"input": row}).json for row in rows]
    assert [one["prediction"] for one in alone] == [one["prediction"] for one in together["predictions"]]
    for one, other in zip(alone, together["predictions"], strict=True):
        assert one["confidence"] == pytest.approx(other["confidence"], rel=1e-5)
    assert ["predictions", "processing_time_ms", "model", "version"] == list(together)


def test_takes_rows_by_input_name(adder: Service) -> None:
    """A model with several inputs takes an object per row; without probabilities there is no confidence."""
    row = {"a": [1, 2], "b": [10, 20]}
    one = adder.post("/predict", {"input": row}).json
    assert ([11.0, 22.0], None) == (one["prediction"], one["confidence"])
    several = adder.post("/predict", {"inputs": [row, row]}).json["predictions"]
    assert [{"prediction": [11.0, 22.0], "confidence": None}] * 2 == several


@pytest.mark.parametrize(
    ("model", "row", "expected"),
    [
        (identity(TensorProto.FLOAT, [None, 1]), [2.5], 2.5),
        (identity(TensorProto.FLOAT, [None]), 2.5, 2.5),
        (identity(TensorProto.FLOAT, [1, 2, 2]), [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
        (identity(TensorProto.STRING, [None, 2]), ["a", "b"], ["a", "b"]),
    ],
    ids=["one column", "no column", "fixed batch of one", "strings"],
)
def test_predicts_without_labels(launch: Launch, tmp_path: Path, model: bytes, row: Any, expected: Any) -> None:
    """Where the manifest names no label, the first output's row is the prediction: a scalar, or a list."""
    service = launch(write_manifest(tmp_path, model)).wait_ready()
    answer = service.post("/predict", {"input": row}).json
    assert (expected, None) == (answer["prediction"], answer["confidence"])
    assert service.stop() == 0


def test_finds_the_label_in_the_probabilities(launch: Launch, tmp_path: Path) -> None:
    """A model that gives probabilities alone is labelled by the index of the highest."""
    kinds = {"x": (TensorProto.FLOAT, [None, 3])}
    softmax = graph([helper.make_node("Softmax", ["x"], ["p"], axis=1)], kinds, {"p": (TensorProto.FLOAT, [None, 3])})
    service = launch(write_manifest(tmp_path, softmax, predict={"probabilities": "p"})).wait_ready()
    answer = service.post("/predict", {"input": [0, 9, 0]}).json
    assert 1 == answer["prediction"]
    assert 0.99 < answer["confidence"] < 1


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        ({"input": "Z"}, "the manifest's predict.input is `Z`; the model has x"),
        ({"label": "Z"}, "the manifest's predict.label is `Z`; the model has y"),
        ({"probabilities": "y"}, "the manifest's predict.probabilities is `y`, which is INT64"),
    ],
)
def test_a_manifest_that_names_other_tensors_is_refused(
    launch: Launch, tmp_path: Path, predict: dict[str, str], words: str
) -> None:
    """Tensors that /predict could not use are found at the start, not by the first caller."""
    service = launch(write_manifest(tmp_path, identity(TensorProto.INT64, [None]), predict=predict))
    assert service.process.wait(30) == 1
    assert words in service.log()[-1]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"x=1", "the body cannot be used"),
        (b"null", "Expected `object`, got `null`"),
        ({}, 'either "input" (one row) or "inputs"'),
        ({"input": [0.0] * 64, "inputs": [[0.0] * 64]}, 'either "input" (one row) or "inputs"'),
        ({"instances": [[0.0] * 64]}, 'either "input" (one row) or "inputs"'),
        ({"inputs": []}, '"inputs" is empty'),
        ({"inputs": [[0.0] * 64] * 101}, '"inputs" has 101 rows; at most 100'),
        ({"inputs": [[0.0] * 64, [0.0] * 63]}, "different shapes: [64] at `$.inputs[0]`, [63] at `$.inputs[1]`"),
        ({"inputs": [[0.0] * 64, [0.0] * 63 + ["a"]]}, "Expected `float`, got `str` - at `$.inputs[1][63]`"),
        ({"inputs": [[0.0] * 64, None]}, "Expected `array`, got `null` - at `$.inputs[1]`"),
        ({"inputs": [[0.0] * 64, {"X": [0.0] * 63 + [-1e39]}]}, "the range of FP32 - at `$.inputs[1].X[63]`"),
        ({"inputs": [[0.0] * 64, {"Y": []}]}, "unknown input `Y`; the model has `X` - at `$.inputs[1]`"),
        ({"input": [0.0] * 63}, "has shape [1, 63]; the model wants [-1, 64]"),
        ({"input": [[0.0] * 64]}, "a row of input `X` is not FP32: Expected `float`, got `array`"),
        ({"input": []}, "has shape [1, 0]"),
        ({"input": None}, "Expected `array`, got `null`"),
        ({"input": "abc"}, "Expected `array`, got `str`"),
        ({"input": [0.0] * 63 + [None]}, "Expected `float`, got `null` - at `$.input[63]`"),
        ({"input": [0.0] * 63 + [1e39]}, "a number out of the range of FP32"),
        ({"input": {"Y": [0.0] * 64}}, "unknown input `Y`"),
        ({"input": {}}, "missing input `X`"),
    ],
)
def test_refuses_malformed_requests(digits: Service, body: Any, words: str) -> None:
    """Whatever is wrong with a request is answered with 400 and {"error"} that names it."""
    reply = digits.post("/predict", body)
    assert (400, ["error"]) == (reply.status, list(reply.json))
    assert words in reply.json["error"]


@pytest.mark.parametrize("body", [{"input": [1, 2, 3, 4]}, {"inputs": [[1, 2], [3, 4]]}, {"input": 7}])
def test_names_the_inputs_that_a_row_needs(adder: Service, body: Any) -> None:
    """A bare array for a model with several inputs is refused with their names, in the form that is wanted."""
    words = 'this model has 2 inputs, `a` and `b`: a row is an object of them, {"a": [...], "b": [...]}'
    assert (400, {"error": words}) == ((reply := adder.post("/predict", body)).status, reply.json)


def test_does_not_tell_the_bits_of_bfloat16_as_a_number(launch: Launch, tmp_path: Path) -> None:
    """JSON has no form for BF16: a prediction of it is refused in words, not answered with a whole number."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    model = graph(nodes, {"x": (TensorProto.FLOAT, ["N", 1])}, {"y": (TensorProto.BFLOAT16, ["N", 1])})
    service = launch(write_manifest(tmp_path, model)).wait_ready()
    reply = service.post("/predict", {"input": [1.0]})
    words = "output `y`: JSON has no form for BF16; ask /infer for binary tensor data"
    assert (400, {"error": words}) == (reply.status, reply.json)
    assert 0 == service.stop()


@pytest.mark.parametrize(
    ("shape", "body", "words"),
    [
        ([1, 2], {"inputs": [[1, 2], [3, 4]]}, "this model takes one row in each request; the body has 2"),
        ([3, 2], {"input": [1, 2]}, "this model takes 3 rows in each request; the body has 1"),
        ([], {"input": 1}, "input `x` has no rows; send this model's requests to /v2/models/tiny/infer"),
    ],
    ids=["fixed batch of one", "fixed batch of three", "scalar"],
)
def test_says_how_many_rows_a_model_takes(
    launch: Launch, tmp_path: Path, shape: list[int], body: Any, words: str
) -> None:
    """A model without a variable first axis is told as what it is."""
    service = launch(write_manifest(tmp_path, identity(TensorProto.FLOAT, shape))).wait_ready()
    reply = service.post("/predict", body)
    assert (400, {"error": words}) == (reply.status, reply.json)


def test_a_model_without_inputs_is_asked_with_an_empty_row(launch: Launch, tmp_path: Path) -> None:
    """There is nothing to say; anything said is refused by name."""
    nodes = [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])]
    service = launch(write_manifest(tmp_path, graph(nodes, {}, {"y": (TensorProto.FLOAT, [2])}))).wait_ready()
    reply = service.post("/predict", {"input": {}})
    assert (200, [1.0, 2.0]) == (reply.status, [one["prediction"] for one in reply.json["predictions"]])
    refused = service.post("/predict", {"input": {"x": 1}})
    assert (400, True) == (refused.status, "unknown input `x`" in refused.json["error"])
