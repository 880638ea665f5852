"""A classifier's classes: their labels, scores as probabilities, and the k most likely."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from model_service.errors import RequestRefused, StartRefused
from model_service.tensors import Array, TensorSpec

MAX_TOP_K = 1_000_000


@dataclass(frozen=True, slots=True)
class Classes:
    """The labels by index, empty where there are none, and what makes the scores probabilities.

    `activation`: None, they are; `softmax`, they are logits; `none`, they are scores that nothing is known of.
    """

    labels: tuple[str, ...] = ()
    activation: str | None = None

    def label(self, index: int) -> str:
        """The label of a class. Raises RequestRefused(500) where the model has more classes than there are labels."""
        if not 0 <= index < len(self.labels):
            raise RequestRefused(500, f"the model answered class {index}; the manifest has {len(self.labels)} labels")
        return self.labels[index]


def read_labels(declared: list[str] | str | None, files: Iterable[str], directory: Path) -> tuple[str, ...]:
    """The manifest's labels, from the file where they are one: a JSON list, or a text with a label a line.

    Raises StartRefused.
    """
    if not isinstance(declared, str):
        return tuple(declared or ())
    if declared not in set(files):
        raise StartRefused(f"the manifest's predict.labels is `{declared}`, which is none of its files")
    content = (directory / declared).read_bytes()
    try:
        if declared.endswith(".json"):
            return tuple(msgspec.json.decode(content, type=list[str]))
        return tuple(line.strip() for line in content.decode().rstrip().split("\n"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartRefused(f"the labels in {declared} cannot be used: {error}") from error


def check_classes(classes: Classes, label: TensorSpec | None, scores: TensorSpec | None) -> None:
    """Raise StartRefused for labels or an activation that the model has no output for."""
    if classes.activation and scores is None:
        raise StartRefused("the manifest's predict.activation needs predict.probabilities, the output that it is for")
    if not classes.labels:
        return
    if label is None and scores is None:
        raise StartRefused("the manifest's predict.labels needs predict.label or predict.probabilities")
    if scores is None and label is not None and label.datatype.json_type is not int:
        raise StartRefused(f"the manifest has predict.labels, and its label `{label.name}` is {label.datatype.name}")
    if scores is None and label is not None and math.prod(label.shape[1:]) != 1:
        raise StartRefused(f"the manifest has predict.labels, and its label `{label.name}` is {list(label.shape)}")
    count = math.prod(scores.shape[1:]) if scores and all(size > 0 for size in scores.shape[1:]) else None
    if scores is not None and count not in (None, len(classes.labels)):
        raise StartRefused(
            f"the manifest has {len(classes.labels)} labels; `{scores.name}` has {count} classes {list(scores.shape)}"
        )


def to_probabilities(scores: Array, activation: str | None) -> Array:
    """One row's scores, flat, as probabilities where the activation makes them such."""
    flat: Array = np.asarray(scores).reshape(-1)
    if activation != "softmax":
        return flat
    with np.errstate(invalid="ignore"):  # what is not finite comes out as NaN, which JSON has as null
        powers = np.exp(flat.astype(np.float64) - flat.max())
        probabilities: Array = (powers / powers.sum()).astype(flat.dtype)
    return probabilities


def top_k(probabilities: Array, k: int, classes: Classes, *, index_is_label: bool) -> list[dict[str, Any]]:
    """The k most likely classes, all where there are fewer, the most likely first.

    Without labels a class is called by its index, unless the model has a label output, which may name it otherwise.
    """
    order = np.argsort(-probabilities, kind="stable")[:k].tolist()
    return [
        {
            "label": classes.label(index) if classes.labels else index if index_is_label else None,
            "index": index,
            "confidence": None if classes.activation == "none" else probabilities[index],
        }
        for index in order
    ]


def read_top_k(text: str) -> int:
    """The number in a query or a form. Raises RequestRefused(400)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= MAX_TOP_K):
        raise RequestRefused(400, f"top_k is not a whole number from 1 to {MAX_TOP_K}")
    return int(text)
