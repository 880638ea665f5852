"""S3's promises that locks and records rest on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

WRITERS, ROUNDS = 8, 40


def test_of_writers_at_once_exactly_one_creates_an_object(client: Callable[..., Any]) -> None:
    """`If-None-Match: *` is atomic: of many writers at the same moment one wins and the others are refused."""
    clients = [client("s3") for _ in range(WRITERS)]
    clients[0].create_bucket(Bucket="locks", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    outcomes: list[list[str]] = [[] for _ in range(ROUNDS)]
    together = threading.Barrier(WRITERS)

    def write(s3: Any) -> None:
        for number in range(ROUNDS):
            together.wait()
            try:
                s3.put_object(Bucket="locks", Key=f"lock-{number}", Body=b"mine", IfNoneMatch="*")
                outcomes[number].append("won")
            except ClientError as error:
                outcomes[number].append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=write, args=(s3,)) for s3 in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = ["PreconditionFailed"] * (WRITERS - 1) + ["won"]
    assert [sorted(outcome) for outcome in outcomes] == [expected] * ROUNDS


def test_a_policy_that_denies_plain_http_does_not_lock_the_bucket(client: Callable[..., Any]) -> None:
    """Bucket policies are stored and given back, not enforced."""
    s3 = client("s3")
    s3.create_bucket(Bucket="guarded", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*",'
        '"Resource":"arn:aws:s3:::guarded/*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}'
    )
    s3.put_bucket_policy(Bucket="guarded", Policy=policy)
    s3.put_object(Bucket="guarded", Key="k", Body=b"v")
    assert s3.get_object(Bucket="guarded", Key="k")["Body"].read() == b"v"
    assert s3.get_bucket_policy(Bucket="guarded")["Policy"] == policy


def test_a_write_on_condition_of_an_etag_is_refused_when_it_changed(client: Callable[..., Any]) -> None:
    """`If-Match` protects a pointer from a writer that has not seen the last change."""
    s3 = client("s3")
    s3.create_bucket(Bucket="pointers", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    first = s3.put_object(Bucket="pointers", Key="current", Body=b"1")["ETag"]
    s3.put_object(Bucket="pointers", Key="current", Body=b"2", IfMatch=first)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="pointers", Key="current", Body=b"3", IfMatch=first)
    assert s3.get_object(Bucket="pointers", Key="current")["Body"].read() == b"2"
