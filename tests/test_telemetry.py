"""ONNX Runtime would tell Microsoft of every model that it loads; nothing of this project lets it."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime.datasets
import pytest

ROOT = Path(__file__).parents[1]
MODEL = onnxruntime.datasets.get_example("sigmoid.onnx")
# With any of these ONNX Runtime holds its peace by itself.
SILENCED = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")


def left_in_home(home: Path, imported: str) -> list[str]:
    """The files that a session leaves in the home directory, once `imported` was imported."""
    code = (
        f"import {imported}, onnxruntime; onnxruntime.InferenceSession({MODEL!r}, providers=['CPUExecutionProvider'])"
    )
    kept = {name: value for name, value in os.environ.items() if name not in SILENCED}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=home, check=True, capture_output=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("package", ["model_service", "pipeline", "demo"])
def test_no_session_leaves_a_trace(tmp_path: Path, package: str) -> None:
    """Neither a device's number nor a database of events to be sent."""
    assert [] == left_in_home(tmp_path, package)


def test_onnx_runtime_by_itself_does(tmp_path: Path) -> None:
    """If it stops, the tests above prove nothing."""
    assert "deviceid" in left_in_home(tmp_path, "sys")
