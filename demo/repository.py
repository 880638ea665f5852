"""The demo's own git repository: a user's project, in which each release is a commit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
    rollout: ROLLOUT
    gate:
      load: {rps: 40, duration_s: 3, min_requests: 90, p99_ms: 2500, max_failure_ratio: 0.001}
      against_live: {rps: 30, duration_s: 3, max_latency_ratio: 1.5}
    environment: {DRAIN_S: "0.5"}   # how long a task that ends still serves; a story need not wait longer

cost: {monthly_usd: 300, notify: [ops@example.com]}
"""

SERVICE = '''\
"""Our own part of /predict: name the three likeliest digits."""

import numpy as np


def postprocess(outputs: dict[str, np.ndarray]) -> dict:
    answers = [answer(*row) for row in zip(outputs["label"], outputs["probabilities"])]
    return answers[0] if len(answers) == 1 else {"predictions": answers}


def answer(label: np.int64, probabilities: np.ndarray) -> dict:
    return {
        "prediction": int(label),
        "confidence": float(probabilities.max()),
        "top3": [int(digit) for digit in np.argsort(probabilities)[::-1][:3]],
    }
'''


class Repository:
    """A git repository with onnxship.yaml, golden.npz and one model file whose content changes by commit."""

    def __init__(self, directory: Path, rollout: dict[str, Any]) -> None:
        self.directory = directory
        self._rollout = rollout

    def create(self, golden: Path) -> None:
        """Start afresh with the configuration and the golden inputs."""
        (self.directory / "models").mkdir(parents=True)
        shutil.copy(golden, self.directory / "golden.npz")
        self._configure({})
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, message: str, model: Path, service: str = "", rollout: dict[str, Any] | None = None) -> str:
        """Commit this model, this code (none when empty) and this change to the rollout; the commit's sha."""
        shutil.copy(model, self.directory / "models" / "digits.onnx")
        code = self.directory / "service.py"
        if service:
            code.write_text(service)
        else:
            code.unlink(missing_ok=True)
        self._configure(rollout or {})
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        return self._git("rev-parse", "HEAD")

    def _configure(self, rollout: dict[str, Any]) -> None:
        # JSON without its quotes is YAML's flow style.
        (self.directory / "onnxship.yaml").write_text(
            CONFIG.replace("ROLLOUT", json.dumps(self._rollout | rollout).replace('"', ""))
        )

    def _git(self, *words: str) -> str:
        who = ("-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false")
        ended = subprocess.run(["git", *who, *words], cwd=self.directory, check=True, capture_output=True, text=True)
        return ended.stdout.strip()
