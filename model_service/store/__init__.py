"""Brings the model onto this machine: the pinned manifest first, then each file, each verified by its sha256.

The only importer of boto3, and only for s3:// addresses and secrets. Nothing is parsed before its digest is right, and
the model's directory appears under its final name in one rename, when all of it is there.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from model_service.errors import StartRefused
from model_service.manifest import Manifest, ModelFile, read_manifest
from model_service.settings import Settings
from model_service.store.directory import create_file, holds, incoming
from model_service.store.local import LocalSource
from model_service.store.s3 import S3Source
from model_service.store.transfer import Transfer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on this machine, every file verified. `version` is what the protocol calls the model's version."""

    manifest: Manifest
    version: str
    directory: Path

    @property
    def model_path(self) -> Path:
        """The .onnx file; its external data, if any, lies beside it."""
        return self.directory / self.manifest.files[0].name

    @property
    def golden_path(self) -> Path | None:
        """The golden inputs, if the manifest has them."""
        return self.directory / self.manifest.golden.name if self.manifest.golden else None


class Source(Protocol):
    """Where a model comes from."""

    def read_manifest(self) -> bytes:
        """The manifest's bytes, not yet verified. Raises StartRefused or OSError."""

    def fill(self, file: ModelFile, fd: int) -> str:
        """The sha256 of what now stands in `fd`, which has the file's size. Raises StartRefused or OSError."""


def fetch(settings: Settings, transfer: Transfer | None = None) -> StoredModel:
    """The model that the settings name, in a directory of its own under MODEL_DIR. Raises StartRefused."""
    transfer = transfer or Transfer(connections=settings.download_connections)
    try:
        source = _open_source(settings, transfer)
        content = source.read_manifest()
        manifest = _checked_manifest(content, settings)
        version = hashlib.sha256(content).hexdigest()[:12]
        target = settings.model_dir / f"{manifest.name}-{version}"
        if not _is_here(target, manifest):
            _fetch_into(target, manifest, source)
    except OSError as error:
        raise StartRefused(_in_words(error, settings.model_dir)) from error
    return StoredModel(manifest, version, target)


def _open_source(settings: Settings, transfer: Transfer) -> Source:
    address = urlsplit(settings.model_manifest_uri)
    if address.scheme == "file":
        return LocalSource(Path(unquote(address.path)), transfer)
    return S3Source(address.netloc, address.path.lstrip("/"), settings.model_manifest_version_id, transfer)


def _checked_manifest(content: bytes, settings: Settings) -> Manifest:
    found, wanted = hashlib.sha256(content).hexdigest(), settings.model_manifest_sha256
    if wanted and found != wanted:
        raise StartRefused(
            f"the model manifest {settings.model_manifest_uri} has the wrong digest: sha256 {found}, expected {wanted}"
        )
    manifest = read_manifest(content)
    size_bytes = sum(file.size_bytes for file in manifest.all_files())
    if size_bytes > settings.max_model_bytes:
        raise StartRefused(f"the model has {size_bytes} bytes; MAX_MODEL_BYTES allows {settings.max_model_bytes}")
    return manifest


def _is_here(target: Path, manifest: Manifest) -> bool:
    """Whether an earlier process has left the model, whole and undamaged."""
    started = time.monotonic()
    if not holds(target, manifest.all_files()):
        return False
    logger.info("%s is here already; verified in %.2f s", target.name, time.monotonic() - started)
    return True


def _fetch_into(target: Path, manifest: Manifest, source: Source) -> None:
    files = manifest.all_files()
    with incoming(target, files) as directory:
        # All before the first byte: what does not fit is told at once.
        opened = [(file, create_file(directory, file)) for file in files]
        try:
            for file, fd in opened:
                _check_digest(file, source.fill(file, fd))
        finally:
            for _, fd in opened:
                os.close(fd)


def _check_digest(file: ModelFile, found: str) -> None:
    if found != file.sha256:
        raise StartRefused(f"{file.name} has the wrong digest: sha256 {found}, expected {file.sha256}")


def _in_words(error: OSError, model_dir: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of MODEL_DIR {model_dir} is full: {error}"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"MODEL_DIR {model_dir} cannot be written: {error.strerror}; name a directory that this user may write"
    return f"the model cannot be stored under MODEL_DIR {model_dir}: {error}"
