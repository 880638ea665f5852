"""The names of a model's classes: read from onnxship.yaml or a file of the user's, checked against the model.

In the release they are `labels.json`, a list, whatever form the user's file has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Predict
from pipeline.errors import ConfigError
from pipeline.results import Signature, TensorSpec

LABELS_NAME = "labels.json"
KEY = "services.<name>.model.predict"
Array = np.ndarray[Any, Any]


def load_labels(file: Callable[[str], Path], predict: Predict, signature: Signature) -> tuple[str, ...]:
    """The classes' names in the order of the probabilities, empty where there are none; `predict` is resolved.

    `file` finds what the configuration names, as Config.file does.

    Raises ConfigError for a file that cannot be read, or names and an activation that no output of the model is for.
    """
    outputs = {spec.name: spec for spec in signature.outputs}
    scores, label = outputs.get(predict.probabilities or ""), outputs.get(predict.label or "")
    if predict.activation and scores is None:
        raise ConfigError(
            f"{KEY}.activation is `{predict.activation}`, and no output of the model is taken for its scores.",
            f"name it: `probabilities: {signature.outputs[0].name}`, or remove `activation`",
        )
    declared = predict.labels
    labels = _read(file(declared)) if isinstance(declared, str) else tuple(declared or ())
    if labels:
        _check(labels, scores, label, signature)
    return labels


def as_file(labels: tuple[str, ...]) -> bytes:
    """The content of labels.json."""
    return (json.dumps(list(labels), ensure_ascii=False, indent=0) + "\n").encode()


def named(predict: Predict, labels: tuple[str, ...], answers: Mapping[str, Array]) -> Array:
    """Each row's class by its name, as `/predict` says it."""
    if predict.probabilities:
        indices = answers[predict.probabilities].reshape(len(answers[predict.probabilities]), -1).argmax(axis=1)
    else:
        indices = answers[predict.label or ""].reshape(-1)
    return np.array([labels[index] if 0 <= index < len(labels) else str(index) for index in indices.tolist()])


def doubt(predict: Predict, answers: Mapping[str, Array]) -> str:
    """In words, that the probabilities are none on the golden inputs; empty where they are, or are not said to be."""
    if not predict.probabilities or predict.activation:
        return ""
    scores = answers[predict.probabilities]
    if not scores.size or (scores.min() >= 0 and scores.max() <= 1 + 1e-3):
        return ""
    return (
        f"`{predict.probabilities}` holds no probabilities: it goes from {scores.min():g} to {scores.max():g}; "
        f"set {KEY}.activation to softmax (it holds logits) or none (/predict then names no confidence)"
    )


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"The labels {path} cannot be read: {why}.", f"correct {KEY}.labels") from error
    labels = _from_json(path, text) if path.suffix == ".json" else [line.strip() for line in text.rstrip().split("\n")]
    if not labels or not all(labels):
        raise ConfigError(
            f"{path}: label {labels.index('') if labels else 0} is empty.", "give each class a line with its name"
        )
    return tuple(labels)


def _from_json(path: Path, text: str) -> list[str]:
    """A list of names, or Hugging Face's `id2label`: an object from each index to its name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", "write a list of names") from error
    if isinstance(content, dict) and isinstance(content.get("id2label"), dict):
        content = content["id2label"]
    if isinstance(content, dict) and set(content) == {str(index) for index in range(len(content))}:
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ConfigError(
            f"{path} holds neither a list of names nor an object of them by index.",
            'write ["first", "second"], or {"0": "first", "1": "second"}',
        )
    return content


def _check(labels: tuple[str, ...], scores: TensorSpec | None, label: TensorSpec | None, signature: Signature) -> None:
    if scores is None and (label is None or label.datatype == "BYTES" or math.prod(label.shape[1:]) != 1):
        raise ConfigError(
            f"{KEY}.labels has {len(labels)} names, and the model has no output that they could name.",
            f"name its scores: `probabilities: {signature.outputs[0].name}`, or remove `labels`",
        )
    if scores is not None and all(size > 0 for size in scores.shape[1:]):
        count = math.prod(scores.shape[1:])
        if count != len(labels):
            raise ConfigError(
                f"{KEY}.labels has {len(labels)} names; the output `{scores.name}` has {count} classes.",
                "give one name for each class, in the order of the output",
            )
