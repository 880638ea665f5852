"""A request that a model understands, to be shown to who has just started a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.golden_inputs import NUMPY_NAMES, Array, load_golden, unjudgeable
from pipeline.onnx_model import inspect_model
from pipeline.results import TensorSpec


def example_request(config: Config, service: str) -> tuple[str, dict[str, Any]]:
    """A path to POST to, and a body: the first golden row, or zeros where the golden inputs' file does not exist.

    A model that cannot be sent one row, as `/predict` takes it, is sent whole tensors.
    """
    model = config.services[service].model
    signature, golden = inspect_model(config.file(model.path)), config.file(model.golden)
    if any(map(unjudgeable, signature.inputs)):
        return f"/v2/models/{service}/infer", {"inputs": [_zero_tensor(spec) for spec in signature.inputs]}
    if golden.exists():
        rows = {name: array[0].tolist() for name, array in load_golden(golden, signature).inputs.items()}
    else:
        rows = {spec.name: _zeros(spec, spec.shape[1:]).tolist() for spec in signature.inputs}
    return "/predict", {"input": next(iter(rows.values())) if len(rows) == 1 else rows}


def _zero_tensor(spec: TensorSpec) -> dict[str, Any]:
    zeros = _zeros(spec, spec.shape)
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(zeros.shape), "data": zeros.ravel().tolist()}


def _zeros(spec: TensorSpec, shape: Sequence[int]) -> Array:
    """Zeros, or empty strings, in the smallest shape that fits."""
    return np.zeros([max(size, 1) for size in shape], NUMPY_NAMES[spec.datatype])
