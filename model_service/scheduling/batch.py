"""Several jobs as one run: which go together, their rows stacked, padded, and taken apart again. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model_service.scheduling.job import Inputs, Job
from model_service.tensors import Array


def group(jobs: Iterable[Job], max_batch: int) -> list[list[Job]]:
    """The read `jobs` in groups that can be stacked, each of at most `max_batch` rows; a larger job runs alone."""
    open_groups: dict[tuple[object, ...], tuple[list[Job], int]] = {}
    groups: list[list[Job]] = []
    for job in jobs:
        assert job.inputs is not None  # they have been read
        key, rows = _row_shapes(job.inputs), job.inputs.rows
        members, total = open_groups.get(key, ([], max_batch))
        if total + rows > max_batch:
            members, total = [], 0
            groups.append(members)
        members.append(job)
        open_groups[key] = (members, total + rows)
    return groups


def stack(jobs: Sequence[Job], buckets: Sequence[int]) -> dict[str, Array]:
    """The rows of all `jobs`, one after the other; repeats of the last row fill up to the next of `buckets`
    (ascending)."""
    all_arrays = [job.inputs.arrays for job in jobs if job.inputs]
    if len(all_arrays) == 1:
        stacked = all_arrays[0]
    else:
        stacked = {name: np.concatenate([arrays[name] for arrays in all_arrays]) for name in all_arrays[0]}
    rows = count_rows(jobs)
    wanted = next((bucket for bucket in buckets if bucket >= rows), rows)
    return stacked if wanted == rows else {name: _padded(array, wanted) for name, array in stacked.items()}


def split(outputs: Mapping[str, Array], jobs: Sequence[Job], rows: int) -> list[dict[str, Array]] | None:
    """Each job's own rows of `outputs`, which came of `rows` rows; None if an output has not one for each."""
    if any(array.ndim == 0 or len(array) != rows for array in outputs.values()):
        return None
    parts, begin = [], 0
    for job in jobs:
        end = begin + (job.inputs.rows if job.inputs else 0)
        parts.append({name: array[begin:end] for name, array in outputs.items()})
        begin = end
    return parts


def count_rows(jobs: Sequence[Job]) -> int:
    """The rows of all `jobs` together."""
    return sum(job.inputs.rows for job in jobs if job.inputs)


def output_names(jobs: Sequence[Job]) -> tuple[str, ...]:
    """All outputs that any of the jobs asks for."""
    first = jobs[0].inputs.output_names if jobs[0].inputs else ()
    if all(job.inputs is not None and job.inputs.output_names == first for job in jobs):
        return first
    return tuple(dict.fromkeys(name for job in jobs if job.inputs for name in job.inputs.output_names))


def _row_shapes(inputs: Inputs) -> tuple[object, ...]:
    return tuple(array.shape[1:] for array in inputs.arrays.values())


def _padded(array: Array, rows: int) -> Array:
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])
