"""`onnxship init`: from a model and labelled rows to a commented onnxship.yaml and golden.npz."""

from __future__ import annotations

import math
import shlex
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined

from pipeline.errors import ConfigError, PipelineError, UsageError
from pipeline.golden_inputs import DYNAMIC_BATCH, unjudgeable
from pipeline.labelled_table import LABEL_NAMES, read_table
from pipeline.model_images import suggested
from pipeline.results import Initialised, Quality, Signature, TensorSpec
from pipeline.stacks import silent

MIN_ROWS = 32
MAX_ROWS = 512
FLOOR_SLACK = 0.02  # how much worse than today's model a release may be before it is refused
NEXT_WITH_DATA = ("onnxship serve", "onnxship rehearse ship", "onnxship doctor")
NEXT_WITHOUT_DATA = ("onnxship serve", "then, for everything else, golden.npz as onnxship.yaml describes it")
NEXT_UNSHIPPABLE = ("onnxship serve", f"then, for everything else, {DYNAMIC_BATCH}")
NUMPY_TYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "BOOL": "bool", "BYTES": "object"} | {
    name: name.lower() for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}


def init(
    model: Path,
    signature: Signature,
    measure: Callable[[Path], Quality | None],
    *,
    data: Path | None,
    directory: Path,
    name: str,
    account: str,
    region: str,
    dry_run: bool = False,
    on_progress: Callable[[str], None] = silent,
) -> Initialised:
    """Write onnxship.yaml (and golden.npz when there is data) into `directory`; existing files are never replaced.

    `data` is an .npz with one array per model input and the labels as `expected`, or a .csv with a header, the
    features in the model's order and the label in the last column (or in one named label, target, y ...).
    `measure` is given the written file and judges the model on the rows as `publish` will: what it raises leaves
    nothing behind, and the quality that it finds, less a little, becomes the floor. A model that rows cannot be sent to
    gets a configuration for `serve`, and is refused with `data`.
    """
    targets = [directory / "onnxship.yaml", *([directory / "golden.npz"] if data else [])]
    for path in targets:
        if path.exists():
            raise UsageError(f"{path} stands already and is left as it is.", f"move {path.name} away, or edit it")
    problem = next(filter(None, map(unjudgeable, signature.inputs)), "")
    if problem and data:
        raise ConfigError(
            f"{model.name}: {problem}.", DYNAMIC_BATCH + "; without --data, `onnxship serve` runs it as it is"
        )
    if problem:
        on_progress(f"{model.name} can be served, not shipped: {problem}; to ship it, {DYNAMIC_BATCH}")
    arrays = read_labelled(data, signature) if data else {}
    settings = {
        "project": name,
        "account": account,
        "region": region,
        "service": name,
        "model_path": _relative(model, directory),
        "rows": len(next(iter(arrays.values()), ())),
        "labelled": "expected" in arrays,
        "signature": signature,
        "images": suggested(signature),
        "problem": problem,
        "doubt": "",
    }
    quality = None if dry_run else _write(targets, arrays, settings, measure, on_progress)
    return Initialised(
        config=str(targets[0]),
        golden=str(targets[1]) if data else "",
        rows=len(next(iter(arrays.values()), ())),
        labelled="expected" in arrays,
        quality=quality,
        inputs=signature.inputs,
        outputs=signature.outputs,
        next_commands=_into(directory)
        + (NEXT_WITH_DATA if data else NEXT_UNSHIPPABLE if problem else NEXT_WITHOUT_DATA),
    )


def _into(directory: Path) -> tuple[str, ...]:
    """The other commands look for onnxship.yaml where they are called."""
    return () if directory.resolve() == Path.cwd() else (f"cd {shlex.quote(str(directory))}",)


def _write(
    targets: list[Path],
    arrays: Mapping[str, np.ndarray],
    settings: Mapping[str, object],
    measure: Callable[[Path], Quality | None],
    on_progress: Callable[[str], None],
) -> Quality | None:
    """Write the files, judge them, and write the floor; or leave everything as it was."""
    config, directory = targets[0], targets[0].parent
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if arrays:
            np.savez_compressed(targets[1], allow_pickle=False, **arrays)
        config.write_text(_rendered(settings, None))
        found = measure(config)
        quality = replace(found, at_least=_floor(found)) if found else None
        doubt = _doubt(quality, arrays["expected"]) if quality else ""
        config.write_text(_rendered(dict(settings) | {"doubt": doubt}, quality))
    except (PipelineError, OSError) as error:
        for path in targets:
            path.unlink(missing_ok=True)
        if is_new and directory.exists():
            directory.rmdir()
        if isinstance(error, OSError):
            raise UsageError(
                f"{directory} cannot be written: {error.strerror}.", "choose another --directory"
            ) from error
        raise
    if doubt:
        on_progress(f"Warning: {doubt}")
    return quality


def _rendered(settings: Mapping[str, object], quality: Quality | None) -> str:
    template = files("pipeline").joinpath("onnxship.yaml.j2").read_text()
    rendered = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(template)  # noqa: S701 - YAML
    return rendered.render(settings, quality=quality) + "\n"


def _doubt(quality: Quality, labels: np.ndarray) -> str:
    """In words, that the rows do not show the model to know more than their commonest label; empty where they do."""
    found, counts = np.unique(labels, return_counts=True)
    commonest, share = " ".join(str(found[counts.argmax()]).split()), counts.max() / len(labels)
    if len(found) == 1:
        return f"every row has the label `{commonest}`: a model that always says it passes"
    if quality.value == 0:
        return (
            f"the model gets none of the labels right, which are such as `{commonest}`: are they written as the model "
            "says them?"
        )
    if quality.value > share:
        return ""
    return (
        f"the model gets {quality.value:.4f} of the labels right; always saying `{commonest}`, the commonest, gets "
        f"{share:.4f}: are the columns in the model's order?"
    )


def _floor(quality: Quality) -> float:
    return max(0.0, math.floor((quality.value - FLOOR_SLACK) * 100) / 100)


def _relative(model: Path, directory: Path) -> str:
    """The model's path as the file should name it: relative where it lies below the file."""
    path, start = model.resolve(), directory.resolve()
    return path.relative_to(start).as_posix() if path.is_relative_to(start) else path.as_posix()


def read_labelled(data: Path, signature: Signature) -> dict[str, np.ndarray]:
    """One array per model input, in the model's own dtype and shape, and `expected` when the rows are labelled.

    Raises ConfigError when a column or array is missing, the shapes do not fit, or there are fewer than 32 rows.
    """
    if data.suffix == ".npz":
        arrays = _from_npz(data, signature)
    elif data.suffix == ".csv":
        arrays = _from_csv(data, signature)
    else:
        raise UsageError(f"{data} is neither .npz nor .csv.", "save the rows with numpy.savez, or as a CSV file")
    rows = len(next(iter(arrays.values())))
    if rows < MIN_ROWS:
        raise ConfigError(
            f"{data} has {rows} rows; at least {MIN_ROWS} are needed to judge a release.", "add labelled rows"
        )
    return {name: array[:MAX_ROWS] for name, array in arrays.items()}


def _from_npz(data: Path, signature: Signature) -> dict[str, np.ndarray]:
    try:
        with np.load(data, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UsageError(f"There is no {data}.", "name an .npz or .csv file that exists with --data") from error
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{data} is not a readable .npz archive.", "save it again with `numpy.savez`, without object arrays"
        ) from error
    arrays = {}
    for spec in signature.inputs:
        source = spec.name if spec.name in found else ("X" if len(signature.inputs) == 1 and "X" in found else None)
        if source is None:
            raise ConfigError(
                f"{data} has no array `{spec.name}`; it has {', '.join(found) or 'nothing'}.",
                f"save the inputs as `{spec.name}`, the model's own name",
            )
        arrays[spec.name] = _fitted(found[source], spec, data)
    label = next((name for name in LABEL_NAMES if name in found), None)
    return arrays | ({"expected": found[label]} if label else {})


def _from_csv(data: Path, signature: Signature) -> dict[str, np.ndarray]:
    if len(signature.inputs) != 1:
        raise UsageError(
            f"The model has {len(signature.inputs)} inputs; a CSV file can hold one.", "pass --data as .npz instead"
        )
    table = read_table(data)
    arrays = {signature.inputs[0].name: _fitted(table.features, signature.inputs[0], data, table.described)}
    return arrays | {"expected": table.labels}


def _fitted(array: np.ndarray, spec: TensorSpec, data: Path, described: str = "") -> np.ndarray:
    """The array in the model's dtype, its shape checked axis by axis (-1 fits any)."""
    wanted = (array.shape[0], *spec.shape[1:])
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"{data}: `{spec.name}` has shape {list(array.shape)}{described}; the model takes {list(spec.shape)} "
            "(-1: any).",
            f"give each row the shape {list(spec.shape[1:])}" + (", and a label column beside it" if described else ""),
        )
    return array.astype(NUMPY_TYPES[spec.datatype])
