"""A published model as the gates read it: manifest and golden inputs from S3, by VersionId, their sha256 checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipeline.aws.session import Aws, body_of
from pipeline.errors import StateUnknown


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """The bytes of a manifest and of its golden file (.npz)."""

    manifest_json: bytes
    golden_npz: bytes

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
    manifest_json = _fetch(aws, bucket, manifest_key, version_id, sha256)
    golden = json.loads(manifest_json)["golden"]
    return PinnedModel(manifest_json, _fetch(aws, bucket, golden["key"], golden["version_id"], golden["sha256"]))


def _fetch(aws: Aws, bucket: str, key: str, version_id: str, sha256: str) -> bytes:
    answer = aws.call("s3", "get_object", Bucket=bucket, Key=key, VersionId=version_id)
    content = body_of(answer, f"s3://{bucket}/{key}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StateUnknown(
            f"s3://{bucket}/{key} (version {version_id}) is not what was published: its sha256 differs.",
            "publish the model again with `onnxship publish`, and find out who wrote to the bucket",
        )
    return content
