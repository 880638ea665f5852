"""S3 in a dictionary: conditional writes as S3 makes them, and a clock that a test can set.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

# ruff: noqa: N803 - arguments are AWS's own names

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from pipeline.errors import AwsError


@dataclass
class MemoryS3:
    """One bucket. `now` tells S3's time."""

    now: Callable[[], datetime]
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise AwsError(f"no key {Key}", "", code="NoSuchKey")
        body, written_at = self.objects[Key]
        headers = {"HTTPHeaders": {"date": format_datetime(self.now(), usegmt=True)}}
        return {
            "Body": io.BytesIO(body), "ETag": _etag(body), "LastModified": written_at, "ResponseMetadata": headers,
        }  # fmt: skip

    def put_object(self, Key: str, Body: bytes, IfMatch: str = "", IfNoneMatch: str = "", **_: Any) -> dict[str, Any]:
        present = self.objects.get(Key)
        if (IfNoneMatch and present) or (IfMatch and not (present and IfMatch == _etag(present[0]))):
            raise AwsError("lost", "", code="PreconditionFailed")
        self.objects[Key] = Body, self.now()
        return {"ETag": _etag(Body)}

    def list_objects_v2(self, Prefix: str = "", **_: Any) -> dict[str, Any]:
        found = sorted(key for key in self.objects if key.startswith(Prefix))
        return {"Contents": [{"Key": key, "LastModified": self.objects[key][1]} for key in found]}


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
