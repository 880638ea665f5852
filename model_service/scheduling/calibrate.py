"""Finds out, when a model is loaded, how it is best run: by running it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np

from model_service.manifest import Batching
from model_service.runtime.model import Model
from model_service.scheduling.plan import Plan
from model_service.tensors import Array, TensorSpec

INLINE_BELOW_S = 0.0003  # a thread's wake-up, there and back, takes a good part of that
TURN_S = 0.003  # how long inline runs may hold up the event loop at once
PAYS_BELOW = 1.7  # two rows together in less than this many times one row's time
AUTO_BATCH = 64
# Where rows together are no faster, a few still save the hand-over between runs; it shows in runs of some milliseconds.
COSTS_NOTHING_BELOW = 2.1
SMALL_BATCH = 4
# Longer runs are all arithmetic on a CPU: rows together would gain nothing, and take memory for good.
ALONE_FROM_S = 0.02
TIMED_S = 0.02
TIMED_RUNS = 20
# What a graph may differ by between one row and two: other kernels, another order of sums.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}

Rows = Mapping[str, Array]

logger = logging.getLogger(__name__)


def calibrate(model: Model, rows: Rows, batching: Batching, *, slots: int, may_inline: bool) -> Plan:
    """The plan for `model`, judged by runs of `rows`: two rows where the first axis is variable, else one.

    What `batching` says is kept; what it leaves open is measured. Raises what a run raises.
    """
    one = first_row(model, rows)
    run_s = _time(model, one)
    is_inline = may_inline and run_s < INLINE_BELOW_S
    is_long = model.device == "cpu" and run_s >= ALONE_FROM_S and not batching.max_batch
    if is_long or not _may_batch(model, rows, batching):
        return Plan(slots, is_inline=is_inline, run_s=run_s)
    max_batch = batching.max_batch or _best_batch(run_s, _time(model, rows), is_inline=is_inline)
    return Plan(slots, max_batch, batching.window_us / 1e6, tuple(batching.buckets), is_inline, run_s)


def _best_batch(one_s: float, two_s: float, *, is_inline: bool) -> int:
    """Rows in a run, by what one row takes and two together."""
    if two_s < PAYS_BELOW * one_s:
        return min(AUTO_BATCH, max(1, int(TURN_S / max(two_s - one_s, 1e-6)))) if is_inline else AUTO_BATCH
    return SMALL_BATCH if two_s < COSTS_NOTHING_BELOW * one_s else 1


def first_row(model: Model, rows: Rows) -> dict[str, Array]:
    """The first of `rows`."""
    return {spec.name: rows[spec.name][:1] if spec.has_variable_rows else rows[spec.name] for spec in model.inputs}


def made_up_rows(model: Model) -> dict[str, Array]:
    """Inputs that fit the signature: two different rows where the first axis is variable, and every other size 1."""
    return {spec.name: _made_up(spec) for spec in model.inputs}


def _made_up(spec: TensorSpec) -> Array:
    shape = tuple(size if size >= 0 else 1 for size in spec.shape)
    zeros = np.full(shape, "", object) if spec.datatype.name == "BYTES" else np.zeros(shape, spec.datatype.numpy_type)
    if not spec.has_variable_rows:
        return zeros
    ones = np.full(shape, "1" if spec.datatype.name == "BYTES" else 1).astype(zeros.dtype)
    return np.concatenate([zeros, ones])


def _may_batch(model: Model, rows: Rows, batching: Batching) -> bool:
    """Whether rows of different requests can go into one run: by the signature, and by trying it."""
    if batching.max_batch == 1:
        return False
    fixed = next((spec for spec in (*model.inputs, *model.outputs) if not spec.has_variable_rows), None)
    if fixed:
        if batching.max_batch:
            words = "no batching: max_batch is %d, but the first axis of `%s` %s is fixed"
            logger.warning(words, batching.max_batch, fixed.name, list(fixed.shape))
        return False
    # Backwards, because of made-up rows: zeros after ones show a sum over rows, ones after zeros do not.
    rows = {name: np.ascontiguousarray(array[::-1]) for name, array in rows.items()}
    try:
        together = model.run(rows).arrays
        alone = [model.run({name: array[row : row + 1] for name, array in rows.items()}).arrays for row in (0, 1)]
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        logger.warning("no batching: the model does not run on two rows at once: %s", error)
        return False
    for name, array in together.items():
        if len(array) != 2 or not all(_same(array[row], alone[row][name][0]) for row in (0, 1)):
            logger.warning("no batching: output `%s` of a row depends on the rows beside it", name)
            return False
    return True


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if np.issubdtype(one.dtype, np.floating):
        return bool(np.allclose(one, other, equal_nan=True, **TOLERANCE))
    return bool(np.array_equal(one, other))


def _time(model: Model, rows: Rows) -> float:
    """The shortest of some runs, the first not counted: ONNX Runtime makes its buffers in that one."""
    model.run(rows)
    times: list[float] = []
    while not times or (sum(times) < TIMED_S and len(times) < TIMED_RUNS):
        started = time.perf_counter()
        model.run(rows)
        times.append(time.perf_counter() - started)
    return min(times)
