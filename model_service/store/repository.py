"""A model repository: a directory, or a prefix in S3, in which `<model>/manifest.json` says what is current.

A manifest is written after the files that it names, so that a model is whole when it appears.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from model_service.errors import StartRefused
from model_service.settings import Settings
from model_service.store.aws import Broken, aws_client, told_apart
from model_service.store.transfer import Transfer

MANIFEST = "manifest.json"
RETRIES = 4


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest in the repository. `mark` changes whenever its content may have changed."""

    uri: str
    version_id: str
    mark: str


def list_repository(settings: Settings) -> dict[str, Listed]:
    """What the repository holds now, by model name. Raises StartRefused if it cannot be read."""
    address = urlsplit(settings.model_repository_uri)
    if address.scheme == "file":
        return _list_directory(Path(unquote(address.path)))
    return _list_prefix(address.netloc, address.path.strip("/"))


def _list_directory(directory: Path) -> dict[str, Listed]:
    try:
        manifests = [path for path in sorted(directory.glob(f"*/{MANIFEST}")) if path.is_file()]
        stats = [path.stat() for path in manifests]
    except OSError as error:
        raise StartRefused(f"the model repository {directory} cannot be read: {error}") from error
    if not directory.is_dir():
        raise StartRefused(f"the model repository {directory} is no directory")
    return {
        path.parent.name: Listed(path.absolute().as_uri(), "", f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}")
        for path, stat in zip(manifests, stats, strict=True)
    }


def _list_prefix(bucket: str, prefix: str) -> dict[str, Listed]:
    try:
        with told_apart(f"s3://{bucket}/{prefix}"):
            client = aws_client("s3", Transfer(), retries=RETRIES)
            found = list(_current_versions(client, bucket, f"{prefix}/" if prefix else ""))
    except Broken as error:
        raise StartRefused(str(error)) from error
    return {
        key.rsplit("/", 2)[-2]: Listed(f"s3://{bucket}/{key}", version_id, f"{version_id} {etag}")
        for key, version_id, etag in found
        if key.endswith(f"/{MANIFEST}") and key.count("/") == prefix.count("/") + (2 if prefix else 1)
    }


def _current_versions(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Key, VersionId and ETag of each current object; the VersionId is `null` in a bucket without versions."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):
            if version["IsLatest"]:
                yield version["Key"], version["VersionId"], version["ETag"]
