"""The model's manifest: the one JSON file that pins a model, read by the server, the gates and the load test.

Keys are sorted and no time stands in it: the same model gives the same bytes, and so the same key in S3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Model, Predict
from pipeline.errors import ConfigError
from pipeline.model_labels import LABELS_NAME
from pipeline.results import Signature, TensorSpec

FORMAT = "onnxship.model/1"
LABEL_DATATYPES = ("INT64", "INT32", "BYTES")
FLOAT_DATATYPES = ("FP16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that the manifest pins. `key` and `version_id` are empty when it stands beside the manifest."""

    name: str
    sha256: str
    size_bytes: int
    key: str = ""
    version_id: str = ""

    def as_json(self) -> dict[str, str | int]:
        return {key: value for key, value in asdict(self).items() if value != ""}


def render(
    service: str,
    files: Sequence[ManifestFile],
    golden: ManifestFile | None,
    signature: Signature,
    model: Model,
    onnxruntime_version: str,
) -> bytes:
    """The manifest's bytes; only a manifest that stays on this machine may be without golden inputs."""
    content = {
        "format": FORMAT,
        "name": service,
        "platform": "onnx_onnxv1",
        "files": [file.as_json() for file in files],
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        "predict": _predict(predict_section(model.predict, signature)),
        "tolerance": model.tolerance.model_dump(),
        "ir_version": signature.ir_version,
        "opset": signature.opset,
        "onnxruntime": onnxruntime_version,
    }
    if golden:
        content["golden"] = golden.as_json()
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def predict_section(configured: Predict, signature: Signature) -> Predict:
    """Which tensors `/predict` speaks of: the configured ones, else those that the signature makes plain.

    A model with one input has it as `input`; the only integer or string output with one value a row is the
    `label`. Beside a label, or where labels or an activation are given, the only float output with a vector a row holds
    the `probabilities`.
    """
    only_input = signature.inputs[0].name if len(signature.inputs) == 1 else None
    label = _chosen("label", configured.label, signature.outputs, _only_one(signature.outputs, LABEL_DATATYPES, (1,)))
    has_classes = label or configured.labels or configured.activation
    vectors = _only_one(signature.outputs, FLOAT_DATATYPES, (2,)) if has_classes else None
    return configured.model_copy(
        update={
            "input": _chosen("input", configured.input, signature.inputs, only_input),
            "label": label,
            "probabilities": _chosen("probabilities", configured.probabilities, signature.outputs, vectors),
        }
    )


def _predict(predict: Predict) -> dict[str, Any]:
    """The three tensors always, and of the rest what is given: a model without it keeps its manifest, byte for byte."""
    content = predict.model_dump(mode="json", exclude_none=True)
    if isinstance(predict.labels, str):
        content["labels"] = LABELS_NAME
    return {"input": None, "label": None, "probabilities": None} | content


def measure(content: bytes | Path) -> tuple[str, int]:
    """The sha256 in hex and the size in bytes, of bytes or of a file's content."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), content.stat().st_size


def _only_one(outputs: Sequence[TensorSpec], datatypes: Sequence[str], ranks: Sequence[int]) -> str | None:
    names = [spec.name for spec in outputs if spec.datatype in datatypes and len(spec.shape) in ranks]
    return names[0] if len(names) == 1 else None


def _chosen(key: str, configured: str | None, specs: Sequence[TensorSpec], derived: str | None) -> str | None:
    if configured is None:
        return derived
    names = [spec.name for spec in specs]
    if configured not in names:
        raise ConfigError(
            f"services.<name>.model.predict.{key} is `{configured}`, which the model does not have.",
            f"use one of {', '.join(names)}, or leave `{key}` out",
        )
    return configured


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
