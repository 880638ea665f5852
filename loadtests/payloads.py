"""Requests from golden rows: distinct bodies, encoded once before the load begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MAX_PAYLOADS = 256


def payloads(
    manifest_path: Path, golden_path: Path, kind: str, requests_path: Path | None = None
) -> tuple[str, list[bytes]]:
    """The path to post to, and the bodies: one per golden row (256 at most), or the lines of a file of requests."""
    manifest = json.loads(manifest_path.read_text())
    path = f"/v2/models/{manifest['name']}/infer" if kind == "infer" else "/predict"
    return path, lines(requests_path) if requests_path else golden_bodies(manifest, golden_path, kind)


def lines(path: Path) -> list[bytes]:
    """One body a line, as it stands; empty lines are none."""
    bodies = [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
    if not bodies:
        raise SystemExit(f"{path} holds no requests")
    return bodies


def golden_bodies(manifest: dict[str, Any], golden_path: Path, kind: str) -> list[bytes]:
    """One JSON body per golden row."""
    with np.load(golden_path, allow_pickle=False) as archive:
        rows = {spec["name"]: archive[spec["name"]][:MAX_PAYLOADS] for spec in manifest["inputs"]}
    count = len(next(iter(rows.values())))
    if count == 0:
        raise SystemExit(f"{golden_path} holds no rows")
    body = infer_body if kind == "infer" else predict_body
    return [json.dumps(body(manifest, rows, row)).encode() for row in range(count)]


def infer_body(manifest: dict[str, Any], rows: dict[str, Any], row: int) -> dict[str, Any]:
    """One row as an Open Inference Protocol request."""
    return {"inputs": [tensor(spec, rows[spec["name"]][row : row + 1]) for spec in manifest["inputs"]]}


def predict_body(manifest: dict[str, Any], rows: dict[str, Any], row: int) -> dict[str, Any]:
    """One row as `/predict` takes it: bare for a model with one input, by name for one with several."""
    values = {spec["name"]: rows[spec["name"]][row].tolist() for spec in manifest["inputs"]}
    only = manifest.get("predict", {}).get("input") or (next(iter(values)) if len(values) == 1 else None)
    return {"input": values[only] if only and len(values) == 1 else values}


def tensor(spec: dict[str, Any], array: Any) -> dict[str, Any]:
    """An array as an input of the protocol: flat, row-major."""
    return {
        "name": spec["name"],
        "datatype": spec["datatype"],
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }
