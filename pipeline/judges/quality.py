"""Judges a model by its labels on golden inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.results import Quality, Verdict
from pipeline.words import counted

Array = np.ndarray[Any, Any]


def judge_quality(
    predictions: Array, expected: Array, *, metric: str, at_least: float, not_below: float | None = None
) -> tuple[Verdict, str, Quality]:
    """The metric over N predicted labels against N expected ones, held to a floor.

    `not_below` is a second floor: the live model's value less what may be lost.
    """
    rows = len(expected)
    if rows == 0 or len(predictions) != rows:
        said = f"{counted(len(predictions), 'prediction')} for {counted(rows, 'label')}"
        return Verdict.INCONCLUSIVE, said, Quality(metric, 0.0, at_least, rows)
    right = int(np.count_nonzero(labels_as_text(predictions) == labels_as_text(expected)))
    quality = Quality(metric, right / rows, at_least, rows)
    said = f"{metric} {quality.value:.4f} on {counted(rows, 'row')}"
    if quality.value < at_least:
        return Verdict.FAIL, f"{said} is below {at_least:g}", quality
    if not_below is not None and quality.value < not_below:
        return Verdict.FAIL, f"{said} is below {not_below:.4f}, the live model's value less what may be lost", quality
    return Verdict.PASS, f"{said} is at least {at_least:g}", quality


def labels_as_text(values: Array) -> Array:
    """Labels as text, one a row: 3, 3.0 and "3" are the same label, and so are True and 1."""
    flat = values.reshape(len(values))
    if flat.dtype.kind == "b":
        return flat.astype(np.int64).astype(str)
    if flat.dtype.kind != "f":
        return flat.astype(str)
    # Each by itself: one NaN among whole numbers must not turn the others into other labels.
    return np.array([str(int(value)) if float(value).is_integer() else str(value) for value in flat])
