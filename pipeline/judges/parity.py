"""Judges a server's answers by ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.results import Verdict
from pipeline.words import counted

Array = np.ndarray[Any, Any]


def judge_parity(
    expected: Mapping[str, Array], answered: Mapping[str, Array], *, rtol: float, atol: float
) -> tuple[Verdict, str, dict[str, float | int | str]]:
    """The server's outputs against ONNX Runtime's own, each within |difference| <= atol + rtol * |expected|.

    Integers, booleans and text must be equal. An output that is missing fails; nothing expected is no data.
    """
    if not expected or any(len(values) == 0 for values in expected.values()):
        return Verdict.INCONCLUSIVE, "there are no recorded outputs to compare with", {}
    numbers: dict[str, float | int | str] = {}
    faults = []
    for name, values in expected.items():
        fault, largest = _difference(values, answered.get(name), rtol, atol)
        numbers |= {} if largest is None else {f"{name}_max_difference": largest}
        faults += [f"`{name}` {fault}"] if fault else []
    if faults:
        return Verdict.FAIL, "; ".join(faults), numbers
    rows = len(next(iter(expected.values())))
    equal = counted(len(expected), "output equals", "outputs equal")
    return Verdict.PASS, f"{equal} ONNX Runtime's own on {counted(rows, 'row')}", numbers


def _difference(expected: Array, answered: Array | None, rtol: float, atol: float) -> tuple[str, float | None]:
    """What is wrong with an output ("" when nothing is), and the largest difference when it is of floats."""
    if answered is None:
        return "is not among the answers", None
    if answered.shape != expected.shape:
        return f"has shape {list(answered.shape)}, not {list(expected.shape)}", None
    if expected.dtype.kind != "f":
        wrong = int(np.count_nonzero(answered.astype(str) != expected.astype(str)))
        return (f"differs in {wrong} of {expected.size} values" if wrong else ""), None
    if answered.dtype.kind not in "fiu":
        return f"holds {answered.dtype} values, not numbers", None
    close = np.isclose(answered.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)
    with np.errstate(invalid="ignore"):
        distances = np.abs(answered.astype(np.float64) - expected.astype(np.float64))
    largest = float(np.max(distances[np.isfinite(distances)], initial=0.0))
    wrong = int(np.count_nonzero(~close))
    return (f"differs in {wrong} of {expected.size} values, by up to {largest:g}" if wrong else ""), largest
