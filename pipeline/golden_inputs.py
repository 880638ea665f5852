"""The user's golden inputs: read, checked against the model's signature, and written again for the release.

The file is an .npz with one array per model input, the batch as first axis, and `expected` when the rows are
labelled. Labels come from the user, never from the model: they are what makes a wrong model visible.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.results import Signature, TensorSpec

Array = np.ndarray[Any, Any]

MIN_ROWS = 32
DYNAMIC_BATCH = "export the model with a dynamic batch axis, or one of size 1, as first axis of every input"
OUTPUT_PREFIX = "output:"
NUMPY_NAMES = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "str"} | {
    name: name.lower() for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}


@dataclass(frozen=True, slots=True)
class GoldenInputs:
    """Inputs by name in the model's dtypes, N rows each; `expected` has N labels, or is None."""

    inputs: dict[str, Array]
    expected: Array | None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def as_npz(self, outputs: Mapping[str, Array]) -> bytes:
        """The published golden.npz: inputs, labels and ONNX Runtime's own outputs. The same content, the same bytes."""
        labels = {} if self.expected is None else {"expected": self.expected}
        arrays: dict[str, Any] = self.inputs | labels | {OUTPUT_PREFIX + n: v for n, v in outputs.items()}
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()


def load_golden(path: Path, signature: Signature) -> GoldenInputs:
    """The golden inputs that `services.<name>.model.golden` names.

    Raises ConfigError when an input is missing, has the wrong shape or dtype, is not finite, or has under 32 rows.
    """
    found = _read(path)
    known = {spec.name for spec in signature.inputs} | {"expected"}
    for name in found:
        if name not in known and not name.startswith(OUTPUT_PREFIX):
            raise ConfigError(
                f"{path} has an array `{name}` that is no input of the model; those are {_names(signature.inputs)}.",
                f"rename or remove `{name}` (labels are called `expected`)",
            )
    inputs = {spec.name: _fitted(path, found, spec) for spec in signature.inputs}
    counts = {name: len(array) for name, array in (inputs | _only(found, "expected")).items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ConfigError(f"{path}: arrays differ in rows ({listed}).", "give every array the same number of rows")
    if (rows := next(iter(counts.values()))) < MIN_ROWS:
        raise ConfigError(
            f"{path} has {rows} rows; at least {MIN_ROWS} are needed to judge a release.", "add labelled rows"
        )
    return GoldenInputs(inputs, _labels(path, found))


def unjudgeable(spec: TensorSpec) -> str:
    """In words, why golden inputs, which are sent by rows, cannot be put into this input; empty where they can.

    A first axis of 1 takes them one by one.
    """
    if not spec.shape:
        return f"input `{spec.name}` is a scalar (shape []): it has no first axis, so no rows to judge a release by"
    if spec.shape[0] not in (-1, 1):
        return (
            f"input `{spec.name}` has shape {list(spec.shape)}: its first axis, the batch, is fixed to "
            f"{spec.shape[0]}, so no row can be judged by itself"
        )
    return ""


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path} holds one array, not named ones.", "save it with `numpy.savez(path, X=X)`")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ConfigError(
            f"There are no golden inputs at {path}.",
            "save labelled rows with `numpy.savez(path, X=X, expected=y)`, or correct services.<name>.model.golden",
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path} is not a readable .npz archive.", "save it again with `numpy.savez`, without object arrays"
        ) from error


def _fitted(path: Path, found: Mapping[str, Array], spec: TensorSpec) -> Array:
    """The array of one input in the model's dtype, its shape checked axis by axis (-1 fits any)."""
    if spec.name not in found:
        raise ConfigError(
            f"{path} has no array `{spec.name}`; it has {', '.join(found) or 'none'}.",
            f"save the input under the model's own name: `{spec.name}`",
        )
    array = found[spec.name]
    if problem := unjudgeable(spec):
        raise ConfigError(f"{path} cannot be used: {problem}.", DYNAMIC_BATCH)
    if not _fits(array.shape, spec.shape):
        raise ConfigError(
            f"{path}: `{spec.name}` has shape {list(array.shape)}; the model takes {list(spec.shape)} (-1: any).",
            f"give each row the shape {list(spec.shape[1:])}",
        )
    return _cast(path, array, spec)


def _labels(path: Path, found: Mapping[str, Array]) -> Array | None:
    """`expected`, one label a row, or None when the rows are not labelled."""
    labels = found.get("expected")
    if labels is None or labels.size == len(labels):
        return labels if labels is None else labels.reshape(-1)
    raise ConfigError(
        f"{path}: `expected` has shape {list(labels.shape)}; it takes one label a row.",
        "save the class itself, not scores: `expected=scores.argmax(axis=1)`",
    )


def _cast(path: Path, array: Array, spec: TensorSpec) -> Array:
    wanted = NUMPY_NAMES[spec.datatype]
    is_text = spec.datatype == "BYTES"
    if is_text != (array.dtype.kind == "U") or not (is_text or np.can_cast(array.dtype, wanted, "same_kind")):
        raise ConfigError(
            f"{path}: `{spec.name}` is {array.dtype}; the model takes {spec.datatype}.",
            f"save it with `.astype('{wanted}')`",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ConfigError(f"{path}: `{spec.name}` holds {bad} values that are NaN or infinite.", "remove those rows")
    return array if is_text else array.astype(wanted)


def _fits(have: tuple[int, ...], want: tuple[int, ...]) -> bool:
    """Whether rows have the input's shape; their number, the first axis, is free."""
    return len(have) == len(want) and all(w in (-1, h) for h, w in zip(have[1:], want[1:], strict=True))


def _only(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {name: arrays[name]} if name in arrays else {}


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(spec.name for spec in specs)
