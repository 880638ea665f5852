"""What is found out when a model is loaded: whether its rows go together."""

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from model_service.manifest import Batching
from model_service.runtime.model import Model
from model_service.scheduling.calibrate import calibrate, made_up_rows
from tests.model_service.conftest import graph
from tests.model_service.scheduling.runner import loaded

FLOAT = TensorProto.FLOAT


def test_finds_out_that_rows_can_go_together(doubling: Model) -> None:
    """A tiny row-by-row model is run on the event loop, in batches."""
    plan = calibrate(doubling, made_up_rows(doubling), Batching(), slots=2, may_inline=True)
    assert plan.is_inline
    assert plan.max_batch > 1


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), "depends on the rows beside it"),
        (helper.make_node("CumSum", ["x", "axis"], ["y"]), "depends on the rows beside it"),
    ],
)
def test_rows_that_look_at_each_other_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, node: Any, why: str
) -> None:
    """A model that mixes its rows is found out by running it, and its requests are never put together."""
    axis = helper.make_node("Constant", [], ["axis"], value_int=0)
    model = loaded(tmp_path, graph([axis, node], {"x": (FLOAT, ["N", 2])}, {"y": (FLOAT, ["N", 2])}))
    assert 1 == calibrate(model, made_up_rows(model), Batching(), slots=1, may_inline=True).max_batch
    assert why in caplog.text


def test_a_fixed_first_axis_is_never_stacked(tmp_path: Path) -> None:
    """A model that wants exactly one sample gets one sample."""
    model = loaded(
        tmp_path, graph([helper.make_node("Neg", ["x"], ["y"])], {"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1, 2])})
    )
    assert 1 == calibrate(model, made_up_rows(model), Batching(max_batch=8), slots=1, may_inline=True).max_batch


def test_the_manifest_decides(doubling: Model) -> None:
    """What the manifest says of batching is kept as it is."""
    batching = Batching(max_batch=5, window_us=1000, buckets=[2, 5])
    plan = calibrate(doubling, made_up_rows(doubling), batching, slots=2, may_inline=False)
    assert (5, 0.001, (2, 5), False) == (plan.max_batch, plan.window_s, plan.buckets, plan.is_inline)
    assert 1 == calibrate(doubling, made_up_rows(doubling), Batching(max_batch=1), slots=2, may_inline=True).max_batch
