"""POST /predict: rows in, predictions out, for callers who know their model and not the protocol.

    {"input": row}            -> {"prediction", "confidence", "processing_time_ms", "model", "version"}
    {"inputs": [row, ...]}    -> {"predictions": [{"prediction", "confidence"}, ...], "processing_time_ms", ...}

A row is one array in the input's shape without its first axis; for a model with several inputs an object of such
arrays by name. A user's preprocess replaces the reading, a user's postprocess the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson

from model_service.body import Body
from model_service.errors import RequestRefused, StartRefused, UserCodeFailed
from model_service.manifest import PredictNames
from model_service.model import Model
from model_service.protocol import NO_DATA, decode_json
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import Array, TensorSpec, check_inputs, check_names, from_json
from model_service.user_code import FILE_NAME, UserCode, call_postprocess, call_preprocess


class PredictRequest(msgspec.Struct, frozen=True):
    """The body; exactly one member is given."""

    input: msgspec.Raw = NO_DATA
    inputs: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """Which output is the label and which the probabilities; neither for a regression."""

    label: str | None
    probabilities: str | None


def find_roles(names: PredictNames | None, model: Model) -> Roles:
    """The roles that the manifest gives the model's tensors. Raises StartRefused for a tensor that does not exist."""
    names = names or PredictNames()
    outputs = {spec.name for spec in model.outputs}
    inputs = {spec.name for spec in model.inputs}
    for role, name, known in (
        ("input", names.input, inputs),
        ("label", names.label, outputs),
        ("probabilities", names.probabilities, outputs),
    ):
        if name is not None and name not in known:
            raise StartRefused(f"the manifest's predict.{role} is `{name}`; the model has {', '.join(sorted(known))}")
    for spec in model.outputs:
        if spec.name == names.probabilities and spec.datatype.json_type is not float:
            raise StartRefused(f"the manifest's predict.probabilities is `{spec.name}`, which is {spec.datatype.name}")
    return Roles(names.label, names.probabilities)


class PredictWork:
    """A request to /predict: `body` under `content_type`, for `model`."""

    __slots__ = ("_body", "_content_type", "_is_single", "_max_rows", "_model", "_roles", "_user_code")

    def __init__(
        self, model: Model, roles: Roles, user_code: UserCode, body: Body, content_type: str, *, max_rows: int
    ) -> None:
        self._model = model
        self._roles = roles
        self._user_code = user_code
        self._body = body
        self._content_type = content_type
        self._max_rows = max_rows
        self._is_single = False

    def read(self) -> Inputs:
        """The model's inputs. Raises RequestRefused, and UserCodeFailed for faults of service.py."""
        model, preprocess = self._model, self._user_code.preprocess
        body = self._body.read()
        if preprocess:
            arrays = _preprocessed(model, preprocess, body, self._content_type, self._max_rows)
            rows = model.count_rows(arrays)
            self._is_single = rows == 1
        else:
            arrays, self._is_single = _read_rows(model, body, self._max_rows)
            rows = model.count_rows(arrays)
        return Inputs(arrays, rows, model.output_names)

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer. Raises UserCodeFailed for faults of service.py."""
        arrays = {name: outputs[name] for name in self._model.output_names}
        if self._user_code.postprocess:
            answer = call_postprocess(self._user_code.postprocess, arrays)
        else:
            predictions = _predictions(self._model, self._roles, arrays)
            answer = predictions[0] if self._is_single and len(predictions) == 1 else {"predictions": predictions}
        answer.setdefault("processing_time_ms", round(compute_s * 1000, 3))
        answer.setdefault("model", self._model.name)
        answer.setdefault("version", self._model.version)
        return Answer(_encode(answer))


def _preprocessed(model: Model, preprocess: Any, body: bytes, content_type: str, max_rows: int) -> dict[str, Array]:
    inputs = call_preprocess(preprocess, body, content_type)
    try:
        check_inputs(inputs, model.inputs, max_rows=max_rows)
    except RequestRefused as error:
        raise UserCodeFailed(f"{FILE_NAME} preprocess returned what the model does not take: {error}") from error
    return {spec.name: inputs[spec.name] for spec in model.inputs}


def _read_rows(model: Model, body: bytes, max_rows: int) -> tuple[dict[str, Array], bool]:
    request = decode_json(body, PredictRequest)
    is_single = request.input is not NO_DATA
    if is_single == (request.inputs is not None):
        raise RequestRefused(400, 'the body needs either "input" (one row) or "inputs" (a list of rows)')
    rows = [request.input] if is_single else request.inputs
    if not rows:
        raise RequestRefused(400, '"inputs" is empty')
    if len(rows) > max_rows:
        raise RequestRefused(400, f'"inputs" has {len(rows)} rows; at most {max_rows} are taken at once')
    inputs = _stack(model, [_by_name(model, row) for row in rows])
    check_inputs(inputs, model.inputs, max_rows=max_rows)
    return inputs, is_single


def _by_name(model: Model, row: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """A row's raw arrays by input name; a bare array belongs to a model's only input."""
    if len(model.inputs) == 1 and bytes(memoryview(row)[:1]) != b"{":
        return {model.inputs[0].name: row}
    if bytes(memoryview(row)[:1]) != b"{":
        names = [spec.name for spec in model.inputs]
        form = ", ".join(f'"{name}": [...]' for name in names)
        listed = " and ".join(f"`{name}`" for name in names)
        raise RequestRefused(
            400, f"this model has {len(names)} inputs, {listed}: a row is an object of them, {{{form}}}"
        )
    arrays = decode_json(bytes(memoryview(row)), dict[str, msgspec.Raw])
    check_names(arrays, model.inputs)
    return arrays


def _stack(model: Model, rows: list[dict[str, msgspec.Raw]]) -> dict[str, Array]:
    return {spec.name: _stack_input(spec, [row[spec.name] for row in rows]) for spec in model.inputs}


def _stack_input(spec: TensorSpec, rows: list[msgspec.Raw]) -> Array:
    if not spec.dimensions:
        raise RequestRefused(400, f"input `{spec.name}` has no rows; send this model's requests to /v2/models")
    what = f"a row of input `{spec.name}`"
    arrays = [from_json(row, spec.datatype, len(spec.dimensions) - 1, what=what) for row in rows]
    if len({array.shape for array in arrays}) > 1:
        raise RequestRefused(400, f"the rows of input `{spec.name}` have different shapes")
    return np.stack(arrays)


def _predictions(model: Model, roles: Roles, outputs: dict[str, Array]) -> list[dict[str, Any]]:
    """One {"prediction", "confidence"} per row of the outputs."""
    if roles.probabilities is None:
        name = roles.label or model.outputs[0].name
        return [{"prediction": _plain(row), "confidence": None} for row in _rows(outputs[name])]
    probabilities = _rows(outputs[roles.probabilities])
    labels = _rows(outputs[roles.label]) if roles.label else [row.argmax() for row in probabilities]
    return [
        {"prediction": _plain(label), "confidence": row.max()} for label, row in zip(labels, probabilities, strict=True)
    ]


def _rows(array: Array) -> list[Any]:
    """The rows of an output; an output without axes is one row."""
    return list(array) if array.ndim else [array]


def _plain(value: Any) -> Any:
    """A row as a scalar where it has one element, else as a list."""
    return value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def _encode(answer: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer, default=_numpy_to_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise UserCodeFailed(f"{FILE_NAME} postprocess returned what JSON cannot hold: {error}") from error


def _numpy_to_plain(value: Any) -> Any:
    """What orjson does not know of numpy: arrays of strings or not contiguous, a platform's own integers."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON serializable")
