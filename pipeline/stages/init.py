"""`onnxship init`: from a model and labelled rows to a commented onnxship.yaml and golden.npz."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined

from pipeline.errors import ConfigError, UsageError
from pipeline.results import Initialised, Signature, TensorSpec

MIN_ROWS = 32
MAX_ROWS = 512
LABEL_NAMES = ("expected", "label", "labels", "target", "y", "class")
NUMPY_TYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "BOOL": "bool", "BYTES": "object"} | {
    name: name.lower() for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}


def init(
    model: Path,
    signature: Signature,
    *,
    data: Path | None,
    directory: Path,
    name: str,
    account: str,
    region: str,
    dry_run: bool = False,
) -> Initialised:
    """Write onnxship.yaml (and golden.npz when there is data) into `directory`; existing files are never replaced.

    `data` is an .npz with one array per model input and the labels as `expected`, or a .csv with a header, the
    features in the model's order and the label in the last column (or in one named label, target, y ...).
    """
    targets = [directory / "onnxship.yaml", *([directory / "golden.npz"] if data else [])]
    for path in targets:
        if path.exists():
            raise UsageError(f"{path} stands already and is left as it is.", f"move {path.name} away, or edit it")
    arrays = read_labelled(data, signature) if data else {}
    rows, labelled = len(next(iter(arrays.values()), ())), "expected" in arrays
    settings = {
        "project": name,
        "account": account,
        "region": region,
        "service": name,
        "model_path": _relative(model, directory),
        "rows": rows,
        "labelled": labelled,
        "signature": signature,
    }
    template = files("pipeline").joinpath("onnxship.yaml.j2").read_text()
    rendered = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(template)  # noqa: S701 - YAML
    if not dry_run:
        directory.mkdir(parents=True, exist_ok=True)
        if arrays:
            np.savez_compressed(directory / "golden.npz", allow_pickle=False, **arrays)
        (directory / "onnxship.yaml").write_text(rendered.render(settings) + "\n")
    return Initialised(
        config=str(directory / "onnxship.yaml"),
        golden=str(directory / "golden.npz") if arrays else "",
        rows=rows,
        labelled=labelled,
        inputs=signature.inputs,
        outputs=signature.outputs,
        next_commands=("onnxship serve", "onnxship rehearse ship", "onnxship doctor"),
    )


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
    except (OSError, ValueError) as error:
        raise ConfigError(f"{data} cannot be read as .npz: {error}", "save it again with numpy.savez") from error
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
    try:
        with data.open(newline="") as file:
            header, *lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(
            f"{data} cannot be read as CSV: {error}", "give it a header line and one row a line"
        ) from error
    if not lines:
        raise ConfigError(f"{data} has a header but no rows.", "add labelled rows")
    at = next((header.index(name) for name in header if name.strip().lower() in LABEL_NAMES), len(header) - 1)
    try:
        features = np.array([[float(cell) for i, cell in enumerate(line) if i != at] for line in lines])
    except ValueError as error:
        raise ConfigError(
            f"{data}: a feature is not a number: {error}", "encode features as the model takes them"
        ) from error
    labels = [line[at] for line in lines]
    expected = np.array([int(x) for x in labels]) if all(x.lstrip("-").isdigit() for x in labels) else np.array(labels)
    return {signature.inputs[0].name: _fitted(features, signature.inputs[0], data), "expected": expected}


def _fitted(array: np.ndarray, spec: TensorSpec, data: Path) -> np.ndarray:
    """The array in the model's dtype, its shape checked axis by axis (-1 fits any)."""
    wanted = (array.shape[0], *spec.shape[1:])
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"{data}: `{spec.name}` has shape {list(array.shape)}; the model takes {list(spec.shape)} (-1: any).",
            f"give each row the shape {list(spec.shape[1:])}",
        )
    return array.astype(NUMPY_TYPES[spec.datatype])
