"""Models that show what a scheduler does with them."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from model_service.runtime.model import Model
from tests.model_service.conftest import graph
from tests.model_service.scheduling.runner import loaded

FLOAT = TensorProto.FLOAT


@pytest.fixture
def doubling(tmp_path: Path) -> Model:
    """y = x + x, row by row."""
    shapes = {"x": (FLOAT, ["N", "M"])}
    return loaded(tmp_path, graph([helper.make_node("Add", ["x", "x"], ["y"])], shapes, {"y": (FLOAT, ["N", "M"])}))


@pytest.fixture
def gathering(tmp_path: Path) -> Model:
    """y = table[x], of three entries: an index beyond them fails inside the graph."""
    table = helper.make_node("Constant", [], ["table"], value_floats=[10.0, 20.0, 30.0])
    nodes = [table, helper.make_node("Gather", ["table", "x"], ["y"])]
    return loaded(tmp_path, graph(nodes, {"x": (TensorProto.INT64, ["N"])}, {"y": (FLOAT, ["N"])}))


@pytest.fixture
def endless(tmp_path: Path) -> Model:
    """Multiplies a matrix again and again, for minutes."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "m"], ["product"]),
            helper.make_node("Clip", ["product"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m", FLOAT, [400, 400]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [400, 400]),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["trips"], value_int=10**6),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body),
    ]
    return loaded(tmp_path, graph(nodes, {"x": (FLOAT, [400, 400])}, {"y": (FLOAT, [400, 400])}))
