"""Judges what `/predict` says by the model's own labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.judges.quality import labels_as_text
from pipeline.results import Verdict
from pipeline.words import counted

Array = np.ndarray[Any, Any]


def judge_predictions(labels: Array, predicted: Sequence[Any]) -> tuple[Verdict, str]:
    """Each row's `prediction` against the model's label of the same row.

    They must be equal. Only where none of the words is a label at all, because a service.py names its classes, it is
    enough that each label has one word and each word one label.
    """
    rows = len(predicted)
    if rows == 0 or len(labels) != rows:
        said = f"`/predict` gave {counted(rows, 'prediction')} for {counted(len(labels), 'label')}"
        return Verdict.INCONCLUSIVE, said
    own, words = labels_as_text(labels).tolist(), [_as_text(value) for value in predicted]
    if set(own).isdisjoint(words):
        return _judge_names(own, words)
    wrong = [row for row in range(rows) if own[row] != words[row]]
    if wrong:
        first = f"row {wrong[0]} says `{words[wrong[0]]}`, the model `{own[wrong[0]]}`"
        return Verdict.FAIL, f"`/predict` contradicts the model in {len(wrong)} of {counted(rows, 'row')}: {first}"
    return Verdict.PASS, f"`/predict` gives the model's labels on {counted(rows, 'row')}"


def _judge_names(own: list[str], words: list[str]) -> tuple[Verdict, str]:
    pairs = set(zip(own, words, strict=True))
    for side, kind in ((0, "label"), (1, "word")):
        for value in sorted({pair[side] for pair in pairs}):
            others = sorted(pair[1 - side] for pair in pairs if pair[side] == value)
            if len(others) > 1:
                several = ", ".join(f"`{other}`" for other in others[:3])
                return Verdict.FAIL, f"`/predict` mixes classes up: {kind} `{value}` goes with {several}"
    return Verdict.PASS, f"`/predict` gives each label a word of its own on {counted(len(own), 'row')}"


def _as_text(value: Any) -> str:
    """A JSON value as a label: 3, 3.0 and "3" are the same, and so are true and 1."""
    is_whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole else str(value)
