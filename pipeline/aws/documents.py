"""JSON documents in S3 that are only ever written conditionally: created once, or replaced if unchanged.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.aws.session import Aws, body_of
from pipeline.errors import AwsError

ABSENT_CODES = frozenset({"NoSuchKey", "404"})
LOST_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", *ABSENT_CODES})


@dataclass(frozen=True, slots=True)
class Document:
    """What stood at a key when it was read; `modified_at` and `read_at` are both S3's clock."""

    content: dict[str, Any]
    etag: str
    modified_at: datetime
    read_at: datetime


class Lost(Exception):
    """Somebody else wrote the key first."""


def read_document(aws: Aws, bucket: str, key: str) -> Document | None:
    """The document at `key`, or None when nobody wrote it yet."""
    try:
        answer = aws.call("s3", "get_object", Bucket=bucket, Key=key)
    except AwsError as error:
        if error.code in ABSENT_CODES:
            return None
        raise
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return Document(
        content=json.loads(body_of(answer, f"s3://{bucket}/{key}")),
        etag=answer["ETag"],
        modified_at=answer["LastModified"],
        read_at=parsedate_to_datetime(date) if date else answer["LastModified"],
    )


def create_document(aws: Aws, bucket: str, key: str, content: dict[str, Any]) -> str:
    """Write `key` for the first time; its ETag. Raises Lost when it exists with other content."""
    return _put(aws, bucket, key, content, IfNoneMatch="*")


def replace_document(aws: Aws, bucket: str, key: str, content: dict[str, Any], etag: str) -> str:
    """Write over the version that has `etag`; the new ETag. Raises Lost when it has changed since."""
    return _put(aws, bucket, key, content, IfMatch=etag)


def put_document_request(bucket: str, key: str, content: dict[str, Any], **condition: str) -> dict[str, Any]:
    """The PutObject request: keys sorted, so that equal content gives equal bytes."""
    body = json.dumps(content, sort_keys=True, indent=1).encode()
    return {"Bucket": bucket, "Key": key, "Body": body, "ContentType": "application/json", **condition}


def list_keys(aws: Aws, bucket: str, prefix: str) -> list[tuple[str, datetime]]:
    """Keys under `prefix` with the time they were last written."""
    found = aws.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    return [(entry["Key"], entry["LastModified"]) for entry in found]


def _put(aws: Aws, bucket: str, key: str, content: dict[str, Any], **condition: str) -> str:
    request = put_document_request(bucket, key, content, **condition)
    try:
        return str(aws.call("s3", "put_object", **request)["ETag"])
    except AwsError as error:
        if error.code not in LOST_CODES:
            raise
        # A write whose answer was lost is sent again by botocore and then meets itself.
        present = read_document(aws, bucket, key)
        if present is not None and present.content == json.loads(request["Body"]):
            return present.etag
        raise Lost(key) from error
