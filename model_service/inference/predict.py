"""POST /predict: rows in, predictions out, for callers who know their model and not the protocol.

    {"input": row}            -> {"prediction", "confidence", "processing_time_ms", "model", "version"}
    {"inputs": [row, ...]}    -> {"predictions": [{"prediction", "confidence"}, ...], "processing_time_ms", ...}
    an image, a form          -> the same, where the manifest declares the preprocessing

A row is one array in the input's shape without its first axis; for a model with several inputs an object of such
arrays by name. With "top_k", in the body or the query, a prediction has the k most likely classes too. A user's
preprocess replaces the reading, a user's postprocess the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import numpy as np
import orjson

from model_service.errors import RequestRefused, StartRefused, UserCodeFailed
from model_service.images.reading import ImageLimits, carries_images, image_type, read_images
from model_service.images.recipe import ImageInput
from model_service.inference.body import Body
from model_service.inference.classes import Classes, check_classes, read_top_k, to_probabilities, top_k
from model_service.inference.classification import LabelsOf
from model_service.inference.rows import read_rows
from model_service.manifest import PredictNames
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import Array, check_inputs
from model_service.user_code import FILE_NAME, UserCode, call_postprocess, call_preprocess


class Question(NamedTuple):
    """A request as it came: its body, Content-Type and query."""

    body: Body
    content_type: str
    query: bytes = b""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may hold."""

    max_rows: int
    images: ImageLimits


@dataclass(frozen=True, slots=True)
class Roles:
    """Which output is the label and which the probabilities, and of which classes; neither for a regression."""

    label: str | None
    probabilities: str | None
    classes: Classes = Classes()  # noqa: RUF009 - frozen

    @property
    def labels_of(self) -> LabelsOf:
        """The labels of the elements of each output that has any."""
        return {self.probabilities: self.classes.labels} if self.probabilities else {}


def find_roles(names: PredictNames, model: Model, labels: tuple[str, ...] = ()) -> Roles:
    """The roles that the manifest gives the model's tensors. Raises StartRefused for a tensor that does not exist."""
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
    specs = {spec.name: spec for spec in model.outputs}
    classes = Classes(labels, names.activation)
    check_classes(classes, specs.get(names.label or ""), specs.get(names.probabilities or ""))
    return Roles(names.label, names.probabilities, classes)


class PredictWork:
    """A request to /predict, for `model`; `images` is how it takes images, if it does."""

    __slots__ = ("_images", "_is_single", "_limits", "_model", "_question", "_roles", "_top_k", "_user_code")

    def __init__(
        self,
        model: Model,
        roles: Roles,
        user_code: UserCode,
        question: Question,
        limits: Limits,
        *,
        images: ImageInput | None = None,
    ) -> None:
        self._model = model
        self._roles = roles
        self._user_code = user_code
        self._question = question
        self._limits = limits
        self._images = images
        self._is_single = False
        self._top_k: int | None = None

    def read(self) -> Inputs:
        """The model's inputs. Raises RequestRefused, and UserCodeFailed for faults of service.py."""
        model, body = self._model, self._question.body.read()
        self._top_k = _top_k_of_query(self._question.query) if self._question.query else None
        if self._user_code.preprocess:
            arrays = _preprocessed(
                model, self._user_code.preprocess, body, self._question.content_type, self._limits.max_rows
            )
            self._is_single = model.count_rows(arrays) == 1
        elif carries_images(self._question.content_type):
            arrays = self._read_images(body)
        else:
            arrays = self._read_json(body)
        if self._top_k and not (self._roles.probabilities or self._user_code.postprocess):
            raise RequestRefused(400, "top_k cannot be answered: the manifest names no probabilities of this model")
        return Inputs(arrays, model.count_rows(arrays), model.output_names)

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer. Raises UserCodeFailed for faults of service.py."""
        if self._user_code.postprocess:
            arrays = {name: outputs[name] for name in self._model.output_names}
            answer = call_postprocess(self._user_code.postprocess, arrays)
        else:
            predictions = _predictions(self._model, self._roles, outputs, self._top_k)
            answer = predictions[0] if self._is_single and len(predictions) == 1 else {"predictions": predictions}
        answer.setdefault("processing_time_ms", round(compute_s * 1000, 3))
        answer.setdefault("model", self._model.name)
        answer.setdefault("version", self._model.version)
        return Answer(_encode(answer))

    def _read_json(self, body: bytes) -> dict[str, Array]:
        try:
            rows = read_rows(self._model, body, self._limits.max_rows)
        except RequestRefused:
            if self._images and (media_type := image_type(body)):
                words = f"the body is an image: send it with `Content-Type: {media_type}`"
                raise RequestRefused(400, words) from None
            raise
        self._is_single, self._top_k = rows.is_single, rows.top_k or self._top_k
        return rows.arrays

    def _read_images(self, body: bytes) -> dict[str, Array]:
        request = read_images(body, self._question.content_type, self._images, self._limits.images)
        check_inputs(request.inputs, self._model.inputs, max_rows=self._limits.max_rows)
        self._is_single = request.count == 1
        if request.top_k is not None:
            self._top_k = read_top_k(request.top_k)
        return request.inputs


def _top_k_of_query(query: bytes) -> int | None:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("top_k")
    return read_top_k(given[-1]) if given else None


def _preprocessed(model: Model, preprocess: Any, body: bytes, content_type: str, max_rows: int) -> dict[str, Array]:
    inputs = call_preprocess(preprocess, body, content_type)
    try:
        check_inputs(inputs, model.inputs, max_rows=max_rows)
    except RequestRefused as error:
        raise UserCodeFailed(f"{FILE_NAME} preprocess returned what the model does not take: {error}") from error
    return {spec.name: inputs[spec.name] for spec in model.inputs}


def _predictions(model: Model, roles: Roles, outputs: Mapping[str, Array], wanted: int | None) -> list[dict[str, Any]]:
    """One {"prediction", "confidence"} per row of the outputs, with its `wanted` most likely classes as "top_k"."""
    classes = roles.classes
    if roles.probabilities is None:
        name = roles.label or model.outputs[0].name
        if model.outputs_by_name[name].datatype.json_type is None:
            kind = model.outputs_by_name[name].datatype.name
            raise RequestRefused(
                400, f"output `{name}`: JSON has no form for {kind}; ask /infer for binary tensor data"
            )
        rows = [_plain(row) for row in _rows(outputs[name])]
        return [{"prediction": classes.label(int(row)) if classes.labels else row, "confidence": None} for row in rows]
    labels = _rows(outputs[roles.label]) if roles.label and not classes.labels else None
    scores = [to_probabilities(row, classes.activation) for row in _rows(outputs[roles.probabilities])]
    answers = [_classified(row, classes) for row in scores]
    if labels is not None:
        answers = [row | {"prediction": _plain(label)} for row, label in zip(answers, labels, strict=True)]
    if wanted:
        for answer, row in zip(answers, scores, strict=True):
            answer["top_k"] = top_k(row, wanted, classes, index_is_label=roles.label is None)
    return answers


def _classified(probabilities: Array, classes: Classes) -> dict[str, Any]:
    """The most likely class by its label, or by its index, and how likely it is."""
    index = int(probabilities.argmax())
    confidence = None if classes.activation == "none" else probabilities.max()
    return {"prediction": classes.label(index) if classes.labels else index, "confidence": confidence}


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
