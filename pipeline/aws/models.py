"""A published model as the gates read it: manifest and golden inputs from S3, by VersionId, their sha256 checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipeline.aws.session import Aws, body_of
from pipeline.errors import StateUnknown


@dataclass(frozen=True, slots=True)
class Pin:
    """An object of the artifact bucket, as it was published."""

    bucket: str
    key: str
    version_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """The bytes of a manifest and of its golden file (.npz), and where the manifest lies when it came from S3."""

    manifest_json: bytes
    golden_npz: bytes
    manifest_pin: Pin | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads(self.manifest_json))

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The model's version in the protocol: the first 12 hex digits of the manifest's sha256."""
        return hashlib.sha256(self.manifest_json).hexdigest()[:12]


def fetch_model(aws: Aws, bucket: str, manifest_key: str, version_id: str, sha256: str) -> PinnedModel:
    """The model that a release pinned. Raises StateUnknown when S3 holds other bytes than were pinned."""
    pin = Pin(bucket, manifest_key, version_id, sha256)
    manifest_json = _fetch(aws, pin)
    return PinnedModel(manifest_json, _fetch(aws, golden_pin(bucket, json.loads(manifest_json))), pin)


def golden_pin(bucket: str, manifest: dict[str, Any]) -> Pin:
    """Where a manifest's golden inputs lie."""
    golden = manifest["golden"]
    return Pin(bucket, golden["key"], golden["version_id"], golden["sha256"])


def _fetch(aws: Aws, pin: Pin) -> bytes:
    place = f"s3://{pin.bucket}/{pin.key}"
    answer = aws.call("s3", "get_object", Bucket=pin.bucket, Key=pin.key, VersionId=pin.version_id)
    content = body_of(answer, place)
    if hashlib.sha256(content).hexdigest() != pin.sha256:
        raise StateUnknown(
            f"{place} (version {pin.version_id}) is not what was published: its sha256 differs.",
            "publish the model again with `onnxship publish`, and find out who wrote to the bucket",
        )
    return content
