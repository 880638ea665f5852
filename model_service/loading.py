"""From settings to a model that can be served: fetch, load, the user's startup, warm-up."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from model_service.errors import StartRefused
from model_service.images.recipe import ImageInput, fit
from model_service.inference.classes import read_labels
from model_service.inference.predict import Roles, find_roles
from model_service.manifest import Batching, Manifest, PredictNames
from model_service.runtime.cpus import available_cpus
from model_service.runtime.memory import free_memory_bytes
from model_service.runtime.model import Model, load_model
from model_service.scheduling.calibrate import calibrate, first_row, made_up_rows
from model_service.scheduling.plan import Plan
from model_service.settings import MIB, Settings
from model_service.slow_start import told
from model_service.store import StoredModel, fetch
from model_service.tensors import Array, TensorSpec, check_inputs
from model_service.user_code import UserCode, call_startup, load_user_code


class Models(Protocol):
    """What loading must know of the models that are served."""

    def __len__(self) -> int: ...

    def has(self, name: str, version: str) -> bool: ...


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is loaded and warm, with how to run it, the user's code, and a row: golden, or made up."""

    model: Model
    plan: Plan
    manifest: Manifest
    stored: StoredModel
    roles: Roles
    user_code: UserCode
    row: dict[str, Array]
    images: ImageInput | None = None


def prepare_user_code(directory: Path) -> UserCode:
    """The user's code in `directory`, started. Raises StartRefused."""
    with told("the import of service.py"):
        user_code = load_user_code(directory)
    with told("service.py startup()"):
        call_startup(user_code)
    return user_code


def load(settings: Settings, user_code: UserCode, models: Models, name: str | None = None) -> Loaded | None:
    """The model that the settings name, loaded and warm; None if `models` has this very version already.

    Its manifest must be that of `name`, if one is given; what cannot be loaded does not stay on the disk.
    Raises StartRefused. Beside models that are served there must be memory for it twice.
    """
    started = time.perf_counter()
    with told("the fetch of the model"):
        stored = fetch(settings)
    fetched = time.perf_counter()
    manifest = stored.manifest
    if models.has(manifest.name, stored.version):
        return None
    try:
        if name not in (None, manifest.name):
            raise StartRefused(f"the manifest of `{name}` is that of a model called `{manifest.name}`")
        if len(models):
            _require_memory(sum(file.size_bytes for file in manifest.files) * 2)
        loaded = _warmed_up(stored, settings, user_code)
    except StartRefused:
        shutil.rmtree(stored.directory, ignore_errors=True)
        raise
    logger.info(
        "model %s version %s is ready: fetched in %.0f ms, loaded and warmed up in %.0f ms; %s",
        manifest.name,
        stored.version,
        (fetched - started) * 1000,
        (time.perf_counter() - fetched) * 1000,
        _in_words(loaded.plan),
    )
    return loaded


def _warmed_up(stored: StoredModel, settings: Settings, user_code: UserCode) -> Loaded:
    manifest = stored.manifest
    with told("the load of the model"):
        model = open_model(stored, settings)
    names = manifest.predict or PredictNames()
    labels = read_labels(names.labels, (file.name for file in manifest.files), stored.directory)
    roles = find_roles(names, model, labels)
    images = fit(names.preprocessing, names.input, model.inputs) if names.preprocessing else None
    golden = golden_rows(stored.golden_path, model) if stored.golden_path else None
    rows = golden or made_up_rows(model)
    with told("the model's first run"):
        plan = _warm_up(model, rows, manifest.batching or Batching(), settings, user_code, is_golden=golden is not None)
    return Loaded(model, plan, manifest, stored, roles, user_code, first_row(model, rows), images)


def _require_memory(wanted_bytes: int) -> None:
    free_bytes = free_memory_bytes()
    if wanted_bytes > free_bytes:
        raise StartRefused(
            f"beside what is served the model needs about {wanted_bytes // MIB} MiB; {free_bytes // MIB} MiB are free"
        )


def golden_rows(path: Path, model: Model) -> dict[str, Array]:
    """The first two rows of the golden inputs, one where the first axis is not variable. Raises StartRefused if the
    file does not hold the model's inputs."""
    try:
        with np.load(path, allow_pickle=False) as golden:
            rows = {spec.name: _first_rows(golden[spec.name], spec) for spec in model.inputs}
        check_inputs(rows, model.inputs, max_rows=2)
    except Exception as error:  # whatever a file that is no .npz makes numpy stumble over
        raise StartRefused(f"the golden inputs cannot be used: {error}") from error
    return rows


def open_model(stored: StoredModel, settings: Settings, threads: int = 1) -> Model:
    """The model in a session of its own; `threads` compute one run. Raises StartRefused."""
    manifest = stored.manifest
    return load_model(
        stored.model_path,
        name=manifest.name,
        version=stored.version,
        platform=manifest.platform,
        device=settings.device,
        gpu_mem_limit_mib=settings.gpu_mem_limit_mib,
        threads=threads,
        spin=threads > 1,
    )


def _warm_up(
    model: Model,
    rows: dict[str, Array],
    batching: Batching,
    settings: Settings,
    user_code: UserCode,
    *,
    is_golden: bool,
) -> Plan:
    """Run the model, so that the first caller does not wait. Raises StartRefused if the golden rows do not run.

    Without golden inputs the signature alone is tried; a graph may refuse such made-up values, so that is only logged.
    """
    slots = settings.slots or (available_cpus() if settings.device == "cpu" else 2)
    if settings.max_batch:
        batching = Batching(settings.max_batch, batching.window_us, batching.buckets)
    try:
        return calibrate(model, rows, batching, slots=slots, may_inline=user_code == UserCode())
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        if is_golden:
            raise StartRefused(f"the model does not run on the first golden rows: {error}") from error
        logger.warning("no warm-up: the model does not run on zeros in its signature's shape: %s", error)
        return Plan(slots)


def _first_rows(array: Array, spec: TensorSpec) -> Array:
    """Rows in the shape of the input: as many samples as a fixed first axis wants, and two where it is variable."""
    rows = array[0] if not spec.dimensions else array[: 2 if spec.has_variable_rows else max(spec.shape[0], 1)]
    return np.asarray(rows).astype(spec.datatype.numpy_type)


def _in_words(plan: Plan) -> str:
    where = "on the event loop" if plan.is_inline else f"in {plan.slots} slots"
    rows = f"up to {plan.max_batch} rows at once" if plan.max_batch > 1 else "one request at a time"
    return f"a row takes {plan.run_s * 1000:.3g} ms; runs {where}, {rows}"
