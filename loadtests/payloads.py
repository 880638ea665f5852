"""Requests from golden rows: distinct bodies, encoded once before the load begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MAX_PAYLOADS = 256


def payloads(manifest_path: Path, golden_path: Path, kind: str) -> tuple[str, list[bytes]]:
    """The path to post to, and one JSON body per golden row (256 rows at most)."""
    manifest = json.loads(manifest_path.read_text())
    with np.load(golden_path, allow_pickle=False) as archive:
        rows = {spec["name"]: archive[spec["name"]][:MAX_PAYLOADS] for spec in manifest["inputs"]}
    count = len(next(iter(rows.values())))
    if count == 0:
        raise SystemExit(f"{golden_path} holds no rows")
    if kind == "infer":
        body = infer_body
        path = f"/v2/models/{manifest['name']}/infer"
    else:
        body = predict_body
        path = "/predict"
    return path, [json.dumps(body(manifest, rows, row)).encode() for row in range(count)]


def infer_body(manifest: dict[str, Any], rows: dict[str, Any], row: int) -> dict[str, Any]:
    """One row as an Open Inference Protocol request."""
    return {"inputs": [_tensor(spec, rows[spec["name"]][row : row + 1]) for spec in manifest["inputs"]]}


def predict_body(manifest: dict[str, Any], rows: dict[str, Any], row: int) -> dict[str, Any]:
    """One row as `/predict` takes it: bare for a model with one input, by name for one with several."""
    values = {spec["name"]: rows[spec["name"]][row].tolist() for spec in manifest["inputs"]}
    only = manifest.get("predict", {}).get("input") or (next(iter(values)) if len(values) == 1 else None)
    return {"input": values[only] if only and len(values) == 1 else values}


def _tensor(spec: dict[str, Any], array: Any) -> dict[str, Any]:
    return {
        "name": spec["name"],
        "datatype": spec["datatype"],
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }
