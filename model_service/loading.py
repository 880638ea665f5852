"""From settings to a model that is ready: fetch, load, the user's startup, warm-up."""

from __future__ import annotations

import logging
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_service.errors import RequestRefused, StartRefused
from model_service.model import Model, load_model
from model_service.predict import Roles, find_roles
from model_service.settings import Settings
from model_service.store import fetch
from model_service.tensors import Array, TensorSpec, check_inputs
from model_service.user_code import UserCode, call_startup, load_user_code

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is ready: loaded and warm, with the user's code and a row of the golden inputs, if there are any."""

    model: Model
    roles: Roles
    user_code: UserCode
    example: dict[str, Array] | None


def load_served(settings: Settings, working_directory: Path) -> Served:
    """The model that the settings name, loaded and warm. Raises StartRefused."""
    started = time.perf_counter()
    stored = fetch(settings)
    fetched = time.perf_counter()
    manifest = stored.manifest
    model = load_model(
        stored.model_path,
        name=manifest.name,
        version=stored.version,
        platform=manifest.platform,
        device=settings.device,
    )
    roles = find_roles(manifest.predict, model)
    user_code = load_user_code(working_directory)
    call_startup(user_code)
    example = golden_row(stored.golden_path, model) if stored.golden_path else None
    warm_up(model, example)
    logger.info(
        "model %s version %s is ready: fetched in %.0f ms, loaded and warmed up in %.0f ms",
        model.name,
        model.version,
        (fetched - started) * 1000,
        (time.perf_counter() - fetched) * 1000,
    )
    return Served(model, roles, user_code, example)


def golden_row(path: Path, model: Model) -> dict[str, Array]:
    """The first row of the golden inputs. Raises StartRefused if the file does not hold the model's inputs."""
    try:
        with np.load(path, allow_pickle=False) as golden:
            row = {spec.name: _first_row(golden[spec.name], spec) for spec in model.inputs}
        check_inputs(row, model.inputs, max_rows=1)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RequestRefused) as error:
        raise StartRefused(f"the golden inputs cannot be used: {error}") from error
    return row


def warm_up(model: Model, example: dict[str, Array] | None) -> None:
    """Run the model once, so that the first caller does not wait. Raises StartRefused if the golden row does not run.

    Without golden inputs the signature alone is tried; a graph may refuse such made-up values, so that is only logged.
    """
    inputs = example or {spec.name: zeros(spec) for spec in model.inputs}
    try:
        model.run(inputs)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        if example:
            raise StartRefused(f"the model does not run on the first golden row: {error}") from error
        logger.warning("no warm-up: the model does not run on zeros in its signature's shape: %s", error)


def zeros(spec: TensorSpec) -> Array:
    """The smallest input that fits the signature, all zeros (empty strings)."""
    shape = tuple(max(size, 1) for size in spec.shape)
    return (
        np.full(shape, "", dtype=object) if spec.datatype.name == "BYTES" else np.zeros(shape, spec.datatype.numpy_type)
    )


def _first_row(array: Array, spec: TensorSpec) -> Array:
    """One row in the shape of the input: as many samples as a fixed first axis wants, and one where it is variable."""
    rows = array[0] if not spec.dimensions else array[: max(spec.shape[0], 1)]
    return np.asarray(rows).astype(spec.datatype.numpy_type)
