"""onnx's own backend test data: models with recorded inputs and outputs, and what ONNX Runtime makes of each.

https://github.com/onnx/onnx/blob/main/docs/OnnxBackendTest.md
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

BFLOAT16 = "tensor(bfloat16)"
LIGHT = Path(onnx.__file__).parents[1]  # which the loader's own addresses begin at
SILENT = 4


@dataclass(frozen=True)
class Case:
    """A model and pairs of recorded inputs and outputs, in the order of the graph's."""

    name: str
    model: bytes
    data_sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float

    def check(self, expected: list[Any], outputs: list[Any]) -> None:
        """Raise AssertionError unless `outputs` are as recorded, by onnx's own comparison."""
        Runner.assert_similar_outputs(expected, outputs, self.rtol, self.atol, self.name)


def cases(kind: str) -> Iterator[Case]:
    """The cases of a kind: node, simple, real, pytorch-converted or pytorch-operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some cases are made by overflows
        found = load_model_tests(kind=kind) if kind != "node" else _node_cases()
    for case in found:
        if case.model is not None:
            sets = [([*map(_as_array, inputs)], [*map(_as_array, outputs)]) for inputs, outputs in case.data_sets]
            yield Case(case.name, case.model.SerializeToString(), sets, case.rtol, case.atol)
        elif case.model_dir:
            directory = Path(case.model_dir)
            sets = [_read_set(one) for one in sorted(directory.glob("test_data_set_*"))]
            yield Case(case.name, (directory / "model.onnx").read_bytes(), sets, case.rtol, case.atol)
        elif case.url and (LIGHT / case.url).exists():
            yield _light_case(case)


class Left(Exception):
    """Why a case is left out."""


def onnx_runtime_session(case: Case) -> ort.InferenceSession:
    """ONNX Runtime's own session for the case. Raises Left."""
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    ort.set_default_logger_severity(SILENT)
    try:
        return ort.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise Left("ONNX Runtime does not load the model") from error


def check_onnx_runtime_itself(case: Case, session: ort.InferenceSession) -> None:
    """Raise Left unless ONNX Runtime answers as recorded, asked without any server."""
    for inputs, expected in case.data_sets:
        try:
            outputs = _run(session, inputs)
        except Exception as error:  # as above
            raise Left("ONNX Runtime does not run the model") from error
        try:
            case.check(expected, outputs)
        except AssertionError as error:
            raise Left("ONNX Runtime itself answers otherwise than recorded") from error


def _run(session: ort.InferenceSession, inputs: list[Any]) -> list[Any]:
    signature = session.get_inputs()
    if BFLOAT16 not in [value.type for value in (*signature, *session.get_outputs())]:
        return list(session.run(None, {value.name: array for value, array in zip(signature, inputs, strict=False)}))
    values = {value.name: _value(value.type, array) for value, array in zip(signature, inputs, strict=False)}
    names = [value.name for value in session.get_outputs()]
    return [_array(value) for value in session.run_with_ort_values(names, values)]


def _value(kind: str, array: Any) -> ort.OrtValue:
    if kind == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), onnx.TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _array(value: ort.OrtValue) -> Any:
    if value.data_type() != BFLOAT16:
        return value.numpy()
    import ctypes

    import ml_dtypes

    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, ml_dtypes.bfloat16).reshape(value.shape())


def _as_array(item: Any) -> Any:
    """Some cases hold a tensor as its message, or a scalar as numpy's own number."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def _node_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    return list(collect_testcases())


def _light_case(case: Any) -> Case:
    """A real topology with made-up weights; its input is made as onnx's own runner makes it, its output is recorded."""
    path = LIGHT / case.url
    model = onnx.load(path)
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [Runner.generate_dummy_data(value) for value in model.graph.input if value.name not in weights]
    outputs = [_read(path.with_name(f"{path.stem}_output_{at}.pb")) for at in range(len(model.graph.output))]
    return Case(case.name, path.read_bytes(), [(inputs, outputs)], case.rtol, case.atol)


def _read_set(directory: Path) -> tuple[list[Any], list[Any]]:
    inputs, outputs = (
        [_read(directory / f"{kind}_{at}.pb") for at in range(len(list(directory.glob(f"{kind}_*.pb"))))]
        for kind in ("input", "output")
    )
    return inputs, outputs


def _read(path: Path) -> Any:
    """A recorded tensor; of anything else, such as a sequence, its bytes."""
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # protobuf's DecodeError, or a type that no tensor has
        return path.read_bytes()
