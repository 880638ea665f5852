"""Real classifiers on scikit-learn's digits, exported to ONNX, and what each answers to the golden inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demo.faults import PERMUTED

GOLDEN_ROWS = 256


@dataclass(frozen=True)
class Trained:
    """A model file, its accuracy on rows it has not seen, and its answers to the golden inputs."""

    path: Path
    accuracy: float
    labels: np.ndarray
    confidences: np.ndarray


def train(directory: Path) -> dict[str, Trained]:
    """Fit and export the models into `directory`, one of them with its classes permuted, and golden.npz beside them."""
    images, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        images.astype(np.float32), labels, test_size=0.25, stratify=labels, random_state=0
    )
    golden, expected = unseen[:GOLDEN_ROWS], unseen_labels[:GOLDEN_ROWS]
    directory.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(directory / "golden.npz", X=golden, expected=expected)
    classifiers: dict[str, ClassifierMixin] = {
        "v1": LogisticRegression(max_iter=300),
        "v2": MLPClassifier((64,), max_iter=200, random_state=0),
        "v3": MLPClassifier((96,), max_iter=200, random_state=1),
    }
    trained = {
        name: _export(directory / f"{name}.onnx", classifier, (seen, seen_labels), (golden, expected))
        for name, classifier in classifiers.items()
    }
    permuted = LogisticRegression(max_iter=300), (seen, (seen_labels + 1) % 10), (golden, expected)
    return trained | {PERMUTED: _export(directory / f"{PERMUTED}.onnx", *permuted)}


def _export(
    path: Path, classifier: ClassifierMixin, seen: tuple[np.ndarray, ...], golden: tuple[np.ndarray, ...]
) -> Trained:
    model = make_pipeline(StandardScaler(), classifier).fit(*seen)
    # Without zipmap=False the probabilities would be a sequence of maps, which no tensor protocol can carry.
    exported = to_onnx(model, seen[0][:1], options={id(model): {"zipmap": False}})
    path.write_bytes(exported.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"X": golden[0]})
    return Trained(path, float(np.mean(labels == golden[1])), labels, probabilities.max(axis=1))
