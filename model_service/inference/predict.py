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
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
import numpy as np
import orjson

from model_service.errors import RequestRefused, StartRefused, UserCodeFailed
from model_service.images.reading import ImageLimits, carries_images, image_type, read_images
from model_service.inference.body import Body
from model_service.inference.classes import Classes, check_classes, read_top_k, to_probabilities, top_k
from model_service.inference.classification import LabelsOf
from model_service.inference.rows import read_rows
from model_service.manifest import PredictNames
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import Array, check_inputs
from model_service.user_code import FILE_NAME, call_postprocess, call_preprocess

if TYPE_CHECKING:
    from model_service.loading import Loaded


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


class PredictWork(msgspec.Struct, eq=False):
    """A request to /predict: its body, Content-Type and query, for what is `loaded`."""

    loaded: Loaded
    body: Body
    content_type: str
    query: bytes
    limits: Limits
    is_single: bool = False
    top_k: int | None = None

    def read(self) -> Inputs:
        """The model's inputs. Raises RequestRefused, and UserCodeFailed for faults of service.py."""
        loaded, body = self.loaded, self.body.read()
        model, user_code = loaded.model, loaded.user_code
        self.top_k = _top_k_of_query(self.query) if self.query else None
        if user_code.preprocess:
            arrays = _preprocessed(model, user_code.preprocess, body, self.content_type, self.limits.max_rows)
            self.is_single = model.count_rows(arrays) == 1
        elif carries_images(self.content_type):
            arrays = self._read_images(body)
        else:
            arrays = self._read_json(body)
        if self.top_k and not (loaded.roles.probabilities or user_code.postprocess):
            raise RequestRefused(400, "top_k cannot be answered: the manifest names no probabilities of this model")
        return Inputs(arrays, model.count_rows(arrays), model.output_names)

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer. Raises UserCodeFailed for faults of service.py."""
        model, postprocess = self.loaded.model, self.loaded.user_code.postprocess
        if postprocess:
            answer = call_postprocess(postprocess, {name: outputs[name] for name in model.output_names})
        else:
            predictions = _predictions(model, self.loaded.roles, outputs, self.top_k)
            answer = predictions[0] if self.is_single and len(predictions) == 1 else {"predictions": predictions}
        answer.setdefault("processing_time_ms", round(compute_s * 1000, 3))
        answer.setdefault("model", model.name)
        answer.setdefault("version", model.version)
        return Answer(_encode(answer))

    def _read_json(self, body: bytes) -> dict[str, Array]:
        try:
            rows = read_rows(self.loaded.model, body, self.limits.max_rows)
        except RequestRefused:
            if self.loaded.images and (media_type := image_type(body)):
                words = f"the body is an image: send it with `Content-Type: {media_type}`"
                raise RequestRefused(400, words) from None
            raise
        self.is_single, self.top_k = rows.is_single, rows.top_k or self.top_k
        return rows.arrays

    def _read_images(self, body: bytes) -> dict[str, Array]:
        request = read_images(body, self.content_type, self.loaded.images, self.limits.images)
        check_inputs(request.inputs, self.loaded.model.inputs, max_rows=self.limits.max_rows)
        self.is_single = request.count == 1
        if request.top_k is not None:
            self.top_k = read_top_k(request.top_k)
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
