"""The demo's own git repository: a user's project, in which each release is a commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CONFIG = """\
project: digits

environments:
  production: {account: "111122223333", region: eu-west-1}

edge: {scheme: internet-facing, ingress_cidrs: [0.0.0.0/0], allow_http: true}

services:
  digits:
    model:
      path: models/digits.onnx
      golden: golden.npz
      quality: {metric: accuracy, at_least: 0.94}
      predict: {input: X, label: label, probabilities: probabilities}
    compute: {cpu: 1024, memory_mib: 2048, min: 2, max: 6}
    rollout: {bake_minutes: 1}
    gate:
      load: {rps: 30, duration_s: 6, min_requests: 100, p99_ms: 1000, max_failure_ratio: 0.001}

cost: {monthly_usd: 300, notify: [ops@example.com]}
"""

SERVICE = '''\
"""Our own part of /predict: name the three likeliest digits."""

import numpy as np


def postprocess(outputs: dict[str, np.ndarray]) -> dict:
    probabilities = outputs["probabilities"][0]
    return {
        "prediction": int(outputs["label"][0]),
        "confidence": float(probabilities.max()),
        "top3": [int(digit) for digit in np.argsort(probabilities)[::-1][:3]],
    }
'''


class Repository:
    """A git repository with onnxship.yaml, golden.npz and one model file whose content changes by commit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self, golden: Path) -> None:
        """Start afresh with the configuration and the golden inputs."""
        (self.directory / "models").mkdir(parents=True)
        (self.directory / "onnxship.yaml").write_text(CONFIG)
        shutil.copy(golden, self.directory / "golden.npz")
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, message: str, model: Path, service: str | None = None) -> str:
        """Put `model` in place (and the code, when given), commit, and return the commit's sha."""
        shutil.copy(model, self.directory / "models" / "digits.onnx")
        if service is not None:
            (self.directory / "service.py").write_text(service)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        return self._git("rev-parse", "HEAD")

    def _git(self, *words: str) -> str:
        who = ("-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false")
        ended = subprocess.run(["git", *who, *words], cwd=self.directory, check=True, capture_output=True, text=True)
        return ended.stdout.strip()
