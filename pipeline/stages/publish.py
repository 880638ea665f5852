"""`onnxship publish`: the model and its golden inputs, validated, measured and stored where nothing can change them.

Every object's key holds the sha256 of its content. The manifest pins all of them by VersionId, and the task
definition pins the manifest: what was judged here is what every task loads, today and after a rollback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline import model_labels, model_manifest, model_repository, onnx_model, stacks
from pipeline.aws import s3
from pipeline.aws.session import Aws
from pipeline.config import Config, Model, Predict
from pipeline.errors import ConfigError, GateRefused
from pipeline.golden_inputs import Array, GoldenInputs, load_golden
from pipeline.judges import judge_quality, labels_as_text
from pipeline.model_images import check_preprocessing
from pipeline.model_labels import LABELS_NAME
from pipeline.model_manifest import ManifestFile
from pipeline.onnx_model import OnnxModel, inspect_model
from pipeline.results import Published, Quality, Signature, Stored, Verdict
from pipeline.waiting import Clock

__all__ = ["inspect_model", "load_golden", "publish", "write_local", "write_repository"]

FindFile = Callable[[str], Path]
MODEL_NAME, GOLDEN_NAME, MANIFEST_NAME = "model.onnx", "golden.npz", "manifest.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that passed every check: where its files are, what it answers, how good it is.

    `labels` is the file of the classes' names by the name that it is published under, or empty.
    """

    onnx: OnnxModel
    names: dict[str, Path]
    labels: dict[str, bytes]
    golden: bytes
    quality: Quality | None

    @property
    def signature(self) -> Signature:
        return self.onnx.signature


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where one service's models are stored; with `dry_run` only looked for."""

    aws: Aws
    name: str
    prefix: str
    on_progress: Callable[[str], None]
    dry_run: bool

    def put(self, name: str, content: bytes | Path) -> s3.StoredObject:
        """The content at its own address; a dry run gives an empty VersionId for what is not there yet."""
        sha256, size_bytes = model_manifest.measure(content)
        key = f"{self.prefix}/{sha256}/{name}"
        if self.dry_run:
            stored = s3.find(self.aws, self.name, key) or s3.StoredObject(key, "", sha256, size_bytes, reused=False)
        else:
            stored = s3.put_once(self.aws, self.name, key, content, sha256=sha256)
        verb = "is there already" if stored.reused else "would be stored" if self.dry_run else "stored"
        self.on_progress(f"{name} ({stored.size_bytes} bytes) {verb}: {self.prefix}/{sha256[:12]}.../{name}")
        return stored


def publish(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    service: str,
    live_quality: Quality | None = None,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Published:
    """Validate, measure and store the service's model; the same model again stores nothing and gives the same pin.

    `live_quality` is what the live release measured, for `quality.not_worse_than_live_by`. Raises ConfigError for a
    model or golden inputs that cannot be used, GateRefused when the quality is below its floor. With `dry_run`
    nothing is stored: VersionIds (and with them the manifest's sha256) are empty unless all is there already.
    """
    del clock  # every stage is called alike; nothing here waits
    model = config.services[service].model
    prepared = prepare(model, config.file, live_quality=live_quality, on_progress=on_progress)
    remedy = "run `onnxship bootstrap` first: it makes the bucket that models are stored in"
    bucket_name = stacks.required_outputs(aws, config.stack_name("registry"), remedy)["ArtifactBucketName"]
    bucket = Bucket(aws, bucket_name, f"models/{service}", on_progress, dry_run)
    contents: dict[str, Path | bytes] = {**prepared.names, **prepared.labels}
    files = [_pinned(name, bucket.put(name, content)) for name, content in contents.items()]
    golden = _pinned(GOLDEN_NAME, bucket.put(GOLDEN_NAME, prepared.golden))
    if any(not file.version_id for file in (*files, golden)):
        return _published(prepared, bucket_name, s3.StoredObject("", "", "", 0, reused=False), files[0])
    manifest = _render(model, service, prepared, files, golden)
    return _published(prepared, bucket_name, bucket.put(MANIFEST_NAME, manifest), files[0])


def write_local(config: Config, service: str, directory: Path) -> Path:
    """The manifest with the model and golden inputs beside it in `directory`; its path. Nothing of AWS is touched.

    Where the golden inputs' file does not exist the manifest has none: the server needs them only for its warm-up.
    """
    model = config.services[service].model
    prepared = _prepared_here(model, config.file)
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in prepared.names.items():
        (directory / name).write_bytes(path.read_bytes())
    for name, content in (prepared.labels | ({GOLDEN_NAME: prepared.golden} if prepared.golden else {})).items():
        (directory / name).write_bytes(content)
    files = [_beside(directory / name) for name in (*prepared.names, *prepared.labels)]
    golden = _beside(directory / GOLDEN_NAME) if prepared.golden else None
    manifest = directory / MANIFEST_NAME
    manifest.write_bytes(_render(model, service, prepared, files, golden))
    return manifest


def write_repository(
    model: Model,
    file: FindFile,
    repository: Path,
    name: str,
    *,
    on_progress: Callable[[str], None] = stacks.silent,
) -> Stored:
    """The model as `<repository>/<name>/manifest.json`, for a server that follows the repository while this writes.

    Validated as `publish` does, but held to no floor; where the golden inputs' file does not exist there are none.
    Labels stand in the manifest itself. Raises ConfigError as `publish` does, UsageError where nothing can be written.
    """
    prepared = _prepared_here(model, file, on_progress)
    files = model_repository.content_named(prepared.onnx, prepared.golden)
    if prepared.labels:
        labels = json.loads(prepared.labels[LABELS_NAME])
        model = model.model_copy(update={"predict": model.predict.model_copy(update={"labels": labels})})
    manifest = _render(model, name, prepared, [entry for entry, _ in files.model], files.golden and files.golden[0])
    change = model_repository.put(repository / name, files, manifest)
    return Stored(
        manifest=str(repository / name / MANIFEST_NAME),
        version=change.version,
        size_bytes=sum(entry.size_bytes for entry, _ in files.model),
        inputs=prepared.signature.inputs,
        outputs=prepared.signature.outputs,
        quality=prepared.quality,
        reused=change.reused,
        removed=change.removed,
    )


def _prepared_here(model: Model, file: FindFile, on_progress: Callable[[str], None] = stacks.silent) -> Prepared:
    """The model for a server on this machine, with golden inputs if there are any, however good it is."""
    if model.golden and file(model.golden).exists():
        return prepare(model, file, enforce_quality=False, on_progress=on_progress)
    return _unmeasured(model, file)


def _unmeasured(model: Model, file: FindFile) -> Prepared:
    """The model alone, without golden inputs and what they would have told."""
    loaded = onnx_model.load_model(file(model.path))
    _, labels = _classes(model, file, loaded)
    return Prepared(loaded, _names(loaded), _labels_file(model, loaded, labels), b"", None)


def _names(loaded: OnnxModel) -> dict[str, Path]:
    """The model's files by the name that each is published under."""
    return {MODEL_NAME: loaded.files[0]} | {path.name: path for path in loaded.files[1:]}


def prepare(
    model: Model,
    file: FindFile,
    *,
    live_quality: Quality | None = None,
    enforce_quality: bool = True,
    on_progress: Callable[[str], None] = stacks.silent,
) -> Prepared:
    """The model and its golden inputs, checked against each other, with ONNX Runtime's own answers.

    `file` finds what `model` names, as Config.file does.
    """
    loaded = onnx_model.load_model(file(model.path))
    predict, labels = _classes(model, file, loaded)
    golden = load_golden(file(model.golden), loaded.signature)
    answers = loaded.answers(golden.inputs)
    _refuse_unbatched(loaded, answers, golden.rows)
    if doubt := model_labels.doubt(predict, answers):
        on_progress(doubt)
    predictions = _predicted_labels(predict, labels, golden, answers)
    quality, verdict, reason = _measured(model, predictions, golden, live_quality)
    on_progress(
        f"{loaded.path.name}: IR version {loaded.signature.ir_version}, opset {loaded.signature.opset}; {reason}"
    )
    if verdict is not Verdict.PASS and enforce_quality:
        raise GateRefused(
            f"{loaded.path.name}: {reason}.",
            "train a better model, or correct the labels in services.<name>.model.golden",
        )
    return Prepared(loaded, _names(loaded), _labels_file(model, loaded, labels), golden.as_npz(answers), quality)


def _classes(model: Model, file: FindFile, loaded: OnnxModel) -> tuple[Predict, tuple[str, ...]]:
    """What `/predict` speaks of, resolved and checked against the model, and its classes' names."""
    predict = model_manifest.predict_section(model.predict, loaded.signature)
    check_preprocessing(predict, loaded.signature)
    return predict, model_labels.load_labels(file, predict, loaded.signature)


def _labels_file(model: Model, loaded: OnnxModel, labels: tuple[str, ...]) -> dict[str, bytes]:
    """The labels' file, where they came from one; names that stand in onnxship.yaml stand in the manifest too."""
    if not isinstance(model.predict.labels, str):
        return {}
    if LABELS_NAME in _names(loaded):
        raise ConfigError(
            f"{loaded.path.name} keeps weights in `{LABELS_NAME}`, the name that the labels are published under.",
            "save the model with another name for its external data",
        )
    return {LABELS_NAME: model_labels.as_file(labels)}


def _refuse_unbatched(loaded: OnnxModel, answers: Mapping[str, Array], rows: int) -> None:
    for name, value in answers.items():
        if value.shape[:1] != (rows,):
            raise ConfigError(
                f"{loaded.path.name}: for {rows} rows output `{name}` has shape {list(value.shape)}; the batch must "
                "be its first axis.",
                "export the model with the batch as first axis of every input and output",
            )


def _measured(
    model: Model, predictions: Array | None, golden: GoldenInputs, live: Quality | None
) -> tuple[Quality | None, Verdict, str]:
    """The model's quality on the labelled rows; without labels `quality: none`, said aloud."""
    floor = model.quality
    if golden.expected is None:
        if floor is None:
            return None, Verdict.PASS, "quality: none (the golden inputs have no labels)"
        raise ConfigError(
            f"services.<name>.model.quality is set, but {model.golden} has no array `expected`.",
            "save the labels with `numpy.savez(path, X=X, expected=y)`, or remove `quality`",
        )
    if predictions is None:
        if floor is None:
            return None, Verdict.PASS, "quality: none (the model has no label output to compare)"
        raise ConfigError(
            f"{model.path} has no label output, so its accuracy cannot be measured.",
            "name it with services.<name>.model.predict.label or .probabilities, or remove `quality`",
        )
    _refuse_other_labels(model, predictions, golden.expected)
    loss = floor.not_worse_than_live_by if floor else None
    verdict, reason, quality = judge_quality(
        predictions,
        golden.expected,
        metric=floor.metric if floor else "accuracy",
        at_least=floor.at_least if floor else 0.0,
        not_below=live.value - loss if live and loss is not None else None,
    )
    return quality, verdict, reason


def _refuse_other_labels(model: Model, predictions: Array, expected: Array) -> None:
    """Names held against numbers would never agree, and the model would look useless."""
    said, known = set(labels_as_text(predictions)), set(labels_as_text(expected))
    if said.isdisjoint(known) and _are_numbers(said) != _are_numbers(known):
        held, answered = ("numbers", "names") if _are_numbers(known) else ("names", "numbers")
        raise ConfigError(
            f"{model.golden}: `expected` holds {held} such as `{expected[0]}`, but {model.path} answers with "
            f"{answered} such as `{predictions.reshape(-1)[0]}`.",
            "save the labels as the model says them",
        )


def _are_numbers(labels: set[str]) -> bool:
    try:
        return bool([float(label) for label in labels])
    except ValueError:
        return False


def _predicted_labels(
    predict: Predict, labels: tuple[str, ...], golden: GoldenInputs, answers: Mapping[str, Array]
) -> Array | None:
    """What the model says of each row, by its name where the golden inputs' labels are names."""
    if labels and golden.expected is not None and golden.expected.dtype.kind == "U":
        return model_labels.named(predict, labels, answers)
    if predict.label:
        return answers[predict.label]
    return np.argmax(answers[predict.probabilities], axis=1) if predict.probabilities else None


def _render(
    model: Model, service: str, prepared: Prepared, files: list[ManifestFile], golden: ManifestFile | None
) -> bytes:
    return model_manifest.render(service, files, golden, prepared.signature, model, onnxruntime.__version__)


def _pinned(name: str, stored: s3.StoredObject) -> ManifestFile:
    return ManifestFile(name, stored.sha256, stored.size_bytes, stored.key, stored.version_id)


def _beside(path: Path) -> ManifestFile:
    return ManifestFile(path.name, *model_manifest.measure(path))


def _published(prepared: Prepared, bucket: str, manifest: s3.StoredObject, model: ManifestFile) -> Published:
    return Published(
        bucket=bucket,
        manifest_key=manifest.key,
        manifest_version_id=manifest.version_id,
        manifest_sha256=manifest.sha256,
        model_sha256=model.sha256,
        model_bytes=sum(path.stat().st_size for path in prepared.names.values()),
        ir_version=prepared.signature.ir_version,
        opset=prepared.signature.opset,
        inputs=prepared.signature.inputs,
        outputs=prepared.signature.outputs,
        quality=prepared.quality,
        reused=manifest.reused,
    )
