"""Content-addressed files in a versioned bucket: written once, found again, pinned by VersionId.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError, ConfigError, StateUnknown

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
MAX_PUT_BYTES = 5 * 1024**3
ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound"})
EXISTS_CODE = "PreconditionFailed"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the bucket, pinned. `reused` is true when it was there before."""

    key: str
    version_id: str
    sha256: str
    size_bytes: int
    reused: bool


def put_once(aws: Aws, bucket: str, key: str, content: bytes | Path, *, sha256: str) -> StoredObject:
    """Store `content` under `key` unless it is there already, and pin it. S3 checks the sha256 on arrival.

    Raises StateUnknown when other content stands at the key, ConfigError for a file above S3's 5 GiB for one PUT.
    """
    size_bytes = content.stat().st_size if isinstance(content, Path) else len(content)
    if size_bytes > MAX_PUT_BYTES:
        raise ConfigError(
            f"{key} has {size_bytes} bytes; one file may have {MAX_PUT_BYTES} (5 GiB).",
            "split the weights into several external data files",
        )
    if isinstance(content, bytes):
        return _put(aws, put_once_request(bucket, key, content, sha256=sha256), size_bytes)
    with content.open("rb") as file:
        return _put(aws, put_once_request(bucket, key, file, sha256=sha256), size_bytes)


def put_once_request(bucket: str, key: str, body: bytes | IO[bytes], *, sha256: str) -> dict[str, Any]:
    """The PutObject request that loses against an existing object."""
    return {
        "Bucket": bucket,
        "Key": key,
        "Body": body,
        "IfNoneMatch": "*",
        "ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(),
        "Metadata": {"sha256": sha256},
    }


def find(aws: Aws, bucket: str, key: str) -> StoredObject | None:
    """The object's newest version, or None when there is none."""
    try:
        head = aws.call("s3", "head_object", Bucket=bucket, Key=key)
    except AwsError as error:
        if error.code in ABSENT_CODES:
            return None
        raise
    sha256 = head.get("Metadata", {}).get("sha256", "")
    return StoredObject(key, _version_id(bucket, head), sha256, int(head["ContentLength"]), reused=True)


def _put(aws: Aws, request: dict[str, Any], size_bytes: int) -> StoredObject:
    bucket, key, sha256 = request["Bucket"], request["Key"], request["Metadata"]["sha256"]
    try:
        answer = aws.call("s3", "put_object", **request)
    except AwsError as error:
        if error.code != EXISTS_CODE:
            raise
        return _existing(aws, bucket, key, sha256, size_bytes)
    return StoredObject(key, _version_id(bucket, answer), sha256, size_bytes, reused=False)


def _existing(aws: Aws, bucket: str, key: str, sha256: str, size_bytes: int) -> StoredObject:
    present = find(aws, bucket, key)
    if present is None or (present.sha256, present.size_bytes) != (sha256, size_bytes):
        raise StateUnknown(
            f"s3://{bucket}/{key} exists with other content than its name says.",
            "look at the object's versions in S3; nothing was overwritten",
        )
    return present


def _version_id(bucket: str, answer: dict[str, Any]) -> str:
    version_id = answer.get("VersionId")
    if version_id in (None, "null"):
        raise StateUnknown(
            f"Bucket {bucket} keeps no versions, so a release could not be pinned.", "run `onnxship bootstrap`"
        )
    return str(version_id)
