"""A model in S3: each object pinned by VersionId and ETag, large ones fetched by several ranged GETs at once.

What breaks is resumed at the byte where it broke. The requests are boto3's, whose bodies read 1 MiB at a time are as
fast as a bare socket; only its transfer manager (8 MiB parts, 10 threads, 256 KiB writes) is slow.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from model_service.errors import StartRefused
from model_service.manifest import ModelFile
from model_service.store.aws import Broken, aws_client, told_apart
from model_service.store.retries import Retries
from model_service.store.sizes import read_limited, wrong_size
from model_service.store.transfer import Arrival, Part, Transfer, write_hashed

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(slots=True)
class S3Object:
    """One version of an object. `etag` is its first answer's; each later answer must have the same."""

    client: Any
    bucket: str
    key: str
    version_id: str
    etag: str = ""
    _first: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        """What messages call it."""
        return f"s3://{self.bucket}/{self.key} (version {self.version_id})"

    def get(self, **conditions: str) -> dict[str, Any]:
        """The answer to a GET. Raises Broken or StartRefused."""
        with told_apart(self.address):
            answer: dict[str, Any] = self.client.get_object(
                Bucket=self.bucket, Key=self.key, VersionId=self.version_id, **conditions
            )
        return answer

    @contextmanager
    def opened(self, file: ModelFile, start: int, end: int) -> Iterator[Any]:
        """The body of bytes `start` to `end`. Raises Broken, or StartRefused if it is not the object it was."""
        if self.etag:
            answer = self.get(Range=f"bytes={start}-{end - 1}", IfMatch=self.etag)
        else:
            answer = self._first_answer(start, end)
        with closing(answer["Body"]) as body:
            self._check(answer, file, start, end)
            with told_apart(self.address):
                yield body

    def _first_answer(self, start: int, end: int) -> dict[str, Any]:
        """One thread learns the ETag while the others wait for it."""
        with self._first:
            conditions = {"IfMatch": self.etag} if self.etag else {}
            answer = self.get(Range=f"bytes={start}-{end - 1}", **conditions)
            self.etag = self.etag or answer.get("ETag", "")
        return answer

    def _check(self, answer: dict[str, Any], file: ModelFile, start: int, end: int) -> None:
        if answer.get("ETag", "") != self.etag:
            raise StartRefused(
                f"{self.address} changed while it was read: its ETag was {self.etag}, now {answer.get('ETag')}"
            )
        found = CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
        if not found:
            raise StartRefused(f"cannot read {self.address}: asked for a range, the store answers without one")
        first, last, size_bytes = map(int, found.groups())
        if size_bytes != file.size_bytes:
            raise wrong_size(file, size_bytes)
        if (first, last + 1) != (start, end):
            raise StartRefused(f"cannot read {self.address}: bytes {start}-{end - 1} asked, {first}-{last} answered")


class S3Source:
    """A manifest in S3, and the objects that it pins in the same bucket."""

    def __init__(self, bucket: str, manifest_key: str, version_id: str, transfer: Transfer) -> None:
        self._transfer = transfer
        with told_apart(f"s3://{bucket}/{manifest_key}"):
            self._client = aws_client("s3", transfer)
        self._manifest = S3Object(self._client, bucket, manifest_key, version_id)

    def read_manifest(self) -> bytes:
        """The manifest's bytes. Raises StartRefused."""
        manifest = self._manifest
        retries = Retries("the model manifest", self._transfer, Event())
        while True:
            try:
                with closing(manifest.get()["Body"]) as body, told_apart(manifest.address):
                    return read_limited(body)
            except Broken as error:
                retries.failed(error, 0)

    def fill(self, file: ModelFile, fd: int) -> str:
        """The sha256 of the object's bytes, written to `fd`. Raises StartRefused or OSError."""
        if not file.key or not file.version_id:
            raise StartRefused(f"the model manifest does not pin {file.name}: key or version_id is missing")
        pinned = S3Object(self._client, self._manifest.bucket, file.key, file.version_id)

        def read(part: Part, arrival: Arrival) -> None:
            retries = Retries(file.name, self._transfer, arrival.stopped)
            while part.position < part.end:
                try:
                    with pinned.opened(file, part.position, part.end) as body:
                        self._read(body, file, part, arrival, retries)
                except Broken as error:
                    retries.failed(error, part.position)

        return write_hashed(fd, file, read, self._transfer)

    def _read(self, body: Any, file: ModelFile, part: Part, arrival: Arrival, retries: Retries) -> None:
        while missing := part.end - part.position:
            wanted = min(self._transfer.read_bytes, missing)
            chunk = body.read(wanted)
            if not chunk:
                raise Broken(f"the answer for {file.name} ended {missing} bytes early")
            arrival.add(part, chunk)
            if len(chunk) == wanted:  # an answer that ends after a few bytes each time is no success
                retries.succeeded()
