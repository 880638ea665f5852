"""A container image in pure Python: one layer without a base, the same bytes for the same files.

https://github.com/opencontainers/image-spec/blob/main/manifest.md
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.building.context import SERVER_COMMAND, ContextFile

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
WORKING_DIRECTORY = "app"
USER_ID = 10001


@dataclass(frozen=True, slots=True)
class Blob:
    """Content under its digest."""

    content: bytes

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class OciImage:
    """An image: its manifest, and the blobs (configuration and layer) that it names."""

    manifest: Blob
    config: Blob
    layer: Blob


def oci_image(files: Iterable[ContextFile], command: Sequence[str] = SERVER_COMMAND) -> OciImage:
    """The files under /app, and `command` run there as an unprivileged user."""
    archive = _tar(files)
    layer = Blob(gzip.compress(archive, mtime=0))
    config = Blob(_json(_config(Blob(archive).digest, command)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": [_descriptor(LAYER_TYPE, layer)],
    }
    return OciImage(Blob(_json(manifest)), config, layer)


def _config(diff_id: str, command: Sequence[str]) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Cmd": list(command),
            "WorkingDir": f"/{WORKING_DIRECTORY}",
            "User": f"{USER_ID}:{USER_ID}",
            "Env": ["PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"],
            "ExposedPorts": {"8080/tcp": {}, "8081/tcp": {}},
            "Volumes": {"/models": {}, "/tmp": {}},  # noqa: S108 - a path in the container
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }


def _tar(files: Iterable[ContextFile]) -> bytes:
    """The files as a tar in which nothing depends on who wrote it, where or when."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files, key=lambda file: file.path):
            entry = tarfile.TarInfo(f"{WORKING_DIRECTORY}/{file.path}")
            entry.size = len(file.content)
            entry.mode = 0o755 if file.is_executable else 0o644
            entry.uid = entry.gid = USER_ID
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": len(blob.content)}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
