"""Brings the model onto this machine: the pinned manifest first, then each file, each verified by its sha256.

The only importer of boto3, and only for s3:// addresses. Nothing is parsed before its digest is right, and the
model's directory appears under its final name in one rename, when all of it is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from model_service.errors import StartRefused
from model_service.manifest import Manifest, ModelFile, read_manifest
from model_service.settings import MIB, Settings

MAX_MANIFEST_BYTES = 1 * MIB

# Opens a file by its name beside the manifest, or by its key and VersionId in the manifest's bucket.
Open = Callable[[ModelFile], AbstractContextManager[BinaryIO]]


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


def fetch(settings: Settings) -> StoredModel:
    """The model that the settings name, in a directory of its own under MODEL_DIR. Raises StartRefused."""
    try:
        content, open_file = _open_store(settings)
        manifest = _checked_manifest(content, settings)
        version = hashlib.sha256(content).hexdigest()[:12]
        target = settings.model_dir / f"{manifest.name}-{version}"
        _download(manifest, open_file, target)
    except OSError as error:
        raise StartRefused(f"the model cannot be stored under MODEL_DIR or read: {error}") from error
    return StoredModel(manifest, version, target)


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


def _download(manifest: Manifest, open_file: Open, target: Path) -> None:
    """Fill a fresh directory beside `target`, then rename it: a half-copied model never has the final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=target.parent))
    try:
        for file in manifest.all_files():
            with open_file(file) as source:
                _copy_verified(source, incoming / file.name, file)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(incoming, target)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _copy_verified(source: BinaryIO, path: Path, file: ModelFile) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("wb") as destination:
        while chunk := source.read(MIB):
            size_bytes += len(chunk)
            if size_bytes > file.size_bytes:
                break
            digest.update(chunk)
            destination.write(chunk)
    if size_bytes != file.size_bytes:
        more = "more than" if size_bytes > file.size_bytes else f"{size_bytes} instead of"
        raise StartRefused(f"{file.name} has the wrong size: {more} {file.size_bytes} bytes")
    if digest.hexdigest() != file.sha256:
        raise StartRefused(f"{file.name} has the wrong digest: sha256 {digest.hexdigest()}, expected {file.sha256}")


def _open_store(settings: Settings) -> tuple[bytes, Open]:
    """The manifest's bytes, and how to open the files it names."""
    address = urlsplit(settings.model_manifest_uri)
    if address.scheme == "file":
        path = Path(unquote(address.path))
        with path.open("rb") as source:
            return _limited(source), lambda file: (path.parent / file.name).open("rb")
    return _open_s3(address.netloc, address.path.lstrip("/"), settings.model_manifest_version_id)


def _open_s3(bucket: str, manifest_key: str, version_id: str) -> tuple[bytes, Open]:
    import boto3  # here, because a model beside its manifest needs no boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=30)
    client = boto3.client("s3", config=config)

    @contextmanager
    def get(key: str, version: str) -> Iterator[BinaryIO]:
        try:
            with closing(client.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"]) as body:
                yield body
        except (BotoCoreError, ClientError) as error:  # of the request, and of every read from its answer
            raise StartRefused(f"cannot read s3://{bucket}/{key} (version {version}): {error}") from error

    def open_file(file: ModelFile) -> AbstractContextManager[BinaryIO]:
        if not file.key or not file.version_id:
            raise StartRefused(f"the model manifest does not pin {file.name}: key or version_id is missing")
        return get(file.key, file.version_id)

    with get(manifest_key, version_id) as body:
        return _limited(body), open_file


def _limited(source: BinaryIO) -> bytes:
    content = b""
    while chunk := source.read(MAX_MANIFEST_BYTES):  # to the very end: only there a broken connection shows
        content += chunk
        if len(content) > MAX_MANIFEST_BYTES:
            raise StartRefused(f"the model manifest is larger than {MAX_MANIFEST_BYTES} bytes")
    return content
