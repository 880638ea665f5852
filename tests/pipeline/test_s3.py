"""Content-addressed objects: written once, found again, never replaced."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from botocore.response import StreamingBody

from pipeline.aws import s3
from pipeline.aws.documents import read_document
from pipeline.aws.session import Aws
from pipeline.errors import AwsError, StateUnknown

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_the_request_loses_against_an_existing_object() -> None:
    """The PUT is conditional, and S3 checks the content's sha256 itself."""
    assert s3.put_once_request("b", "k", CONTENT, sha256=SHA256) == {
        "Bucket": "b",
        "Key": "k",
        "Body": CONTENT,
        "IfNoneMatch": "*",
        "ChecksumSHA256": "mhKQONmgCu0M9qfqBZylCoE0SQYauHhIzxoT6v3zOyw=",
        "Metadata": {"sha256": SHA256},
    }


def test_a_file_is_stored_once(aws: Aws, bucket: str, tmp_path: Path) -> None:
    """The second PUT finds the first one's version, from a file or from bytes."""
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)

    first = s3.put_once(aws, bucket, "k", path, sha256=SHA256)
    second = s3.put_once(aws, bucket, "k", CONTENT, sha256=SHA256)

    assert (first.reused, second.reused) == (False, True)
    assert first.version_id == second.version_id
    assert second.size_bytes == len(CONTENT)


def test_other_content_at_the_key_is_never_taken_for_ours(aws: Aws, bucket: str) -> None:
    """Somebody wrote something else there: a person must look."""
    aws.call("s3", "put_object", Bucket=bucket, Key="k", Body=b"something")

    with pytest.raises(StateUnknown, match="exists with other content"):
        s3.put_once(aws, bucket, "k", CONTENT, sha256=SHA256)


def test_an_unversioned_bucket_cannot_pin(aws: Aws, bucket: str) -> None:
    """Without versions there is nothing to pin a release to."""
    location = {"LocationConstraint": "eu-west-1"}
    aws.call("s3", "create_bucket", Bucket="plain-bucket", CreateBucketConfiguration=location)

    with pytest.raises(StateUnknown, match="keeps no versions"):
        s3.put_once(aws, "plain-bucket", "k", CONTENT, sha256=SHA256)


def test_what_is_not_there_is_none(aws: Aws, bucket: str) -> None:
    """An absent object is no error."""
    assert s3.find(aws, bucket, "none") is None


def test_an_answer_that_breaks_off_is_awss_failure() -> None:
    """Its bytes arrive after the call: a connection cut then is exit code 6 with the object's name, no crash."""

    class Cut:
        def call(self, *_: str, **__: str) -> dict[str, object]:
            return {"Body": StreamingBody(io.BytesIO(b'{"half"'), 100), "ResponseMetadata": {"HTTPHeaders": {}}}

    with pytest.raises(AwsError, match="could not be read to its end"):
        read_document(Cut(), "b", "releases/current.json")  # type: ignore[arg-type]
