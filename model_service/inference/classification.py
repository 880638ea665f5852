"""Triton's classification extension: an output as its k highest elements, each a string "value:index[:label]".

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_classification.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_service.errors import RequestRefused
from model_service.tensors import BY_NAME, Array, TensorSpec

CLASSIFIED = BY_NAME["BYTES"]

# The labels of an output's classes, by the output's name.
LabelsOf = Mapping[str, Sequence[str]]


def has_classes(spec: TensorSpec) -> bool:
    """Whether it is of numbers, of which some are the highest."""
    return spec.datatype.json_type in (int, float)


def check_classification(spec: TensorSpec) -> None:
    """Raise RequestRefused(400) for an output whose elements have no order."""
    if not has_classes(spec):
        raise RequestRefused(400, f"output `{spec.name}` is {spec.datatype.name}: `classification` needs numbers")


def classify(array: Array, spec: TensorSpec, k: int, labels: Sequence[str]) -> Array:
    """[rows, k] strings where the output has rows, else [k]; all elements of a row where it has fewer than k.

    Of equals the one with the lower index comes first, NaN last.
    """
    rows = array.reshape(len(array), -1) if spec.has_variable_rows else array.reshape(1, -1)
    best = [_best(row, k, labels) for row in rows]
    strings = np.array(best, np.object_).reshape(len(rows), -1)
    return strings if spec.has_variable_rows else strings[0]


def _best(row: Array, k: int, labels: Sequence[str]) -> list[str]:
    # Not -row for whole numbers: unsigned ones have no negative, and the lowest of the others neither.
    descending = -row if row.dtype.kind == "f" else ~row
    order = np.argsort(descending, kind="stable")[:k].tolist()
    return [_in_words(row[index], index, labels) for index in order]


def _in_words(value: Any, index: int, labels: Sequence[str]) -> str:
    number = f"{value:f}" if value.dtype.kind == "f" else str(value)  # as C++'s std::to_string has them
    label = labels[index] if index < len(labels) else ""
    return f"{number}:{index}:{label}" if label else f"{number}:{index}"
