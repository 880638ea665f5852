"""The local AWS answers its own parts without a connection, and says exactly what it says over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rehearsal.context import Context, Settings
from rehearsal.front_door import ApiServer
from rehearsal.outage import Outages

ACCOUNT, REGION = "123456789012", "eu-west-1"
CALLS = [
    pytest.param("sts", "get_caller_identity", {}, id="query"),
    pytest.param("ec2", "describe_availability_zones", {}, id="ec2"),
    pytest.param("secretsmanager", "list_secrets", {}, id="json"),
    pytest.param("lambda", "list_functions", {}, id="rest-json"),
    pytest.param("s3", "list_buckets", {}, id="rest-xml"),
]
REFUSED = [
    pytest.param("sns", "get_topic_attributes", {"TopicArn": "arn:aws:sns:eu-west-1:1:none"}, id="query"),
    pytest.param("ec2", "describe_subnets", {"SubnetIds": ["subnet-none"]}, id="ec2"),
    pytest.param("secretsmanager", "describe_secret", {"SecretId": "none"}, id="json"),
    pytest.param("s3", "get_object", {"Bucket": "none-of-this-name", "Key": "k"}, id="rest-xml"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ApiServer, str]]:
    api = ApiServer(Outages())
    endpoint = api.start()
    yield api, endpoint
    api.stop()


def context(endpoint: str, **more: Any) -> Context:
    made = Context(Settings(ACCOUNT, REGION, Path()), asyncio.new_event_loop(), endpoint=endpoint, **more)
    made.loop.close()  # nothing here happens over time
    return made


@pytest.fixture(scope="module")
def over_http(server: tuple[ApiServer, str]) -> Context:
    return context(server[1])


@pytest.fixture(scope="module")
def in_process(server: tuple[ApiServer, str]) -> Context:
    """Its endpoint is a port where nobody listens: no request may go there."""
    return context("http://127.0.0.1:9", aws=server[0].door)


def told(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize(("service", "operation", "request_"), CALLS)
def test_an_answer_is_the_same_without_a_connection(
    in_process: Context, over_http: Context, service: str, operation: str, request_: dict[str, Any]
) -> None:
    """In every protocol that AWS's services speak."""
    own, usual = (getattr(one.client(service), operation)(**request_) for one in (in_process, over_http))

    assert told(usual) == told(own)
    assert 200 == own["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize(("service", "operation", "request_"), REFUSED)
def test_a_refusal_is_the_same_without_a_connection(
    in_process: Context, over_http: Context, service: str, operation: str, request_: dict[str, Any]
) -> None:
    """With AWS's code and message."""
    refusals = []
    for one in (in_process, over_http):
        with pytest.raises(ClientError) as refused:
            getattr(one.client(service), operation)(**request_)
        refusals.append((refused.value.response["Error"], refused.value.response["ResponseMetadata"]["HTTPStatusCode"]))

    assert refusals[0] == refusals[1]


def test_bodies_go_both_ways_unharmed(in_process: Context, over_http: Context) -> None:
    """Bytes of any value, from memory and from a file, read whole and in pieces."""
    content = bytes(range(256)) * 1000
    s3, usual = in_process.client("s3"), over_http.client("s3")
    s3.create_bucket(Bucket="both-ways", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="both-ways", Key="a b/ü", Body=content)

    assert content == usual.get_object(Bucket="both-ways", Key="a b/ü")["Body"].read()
    body = s3.get_object(Bucket="both-ways", Key="a b/ü", Range="bytes=256-999")["Body"]
    assert content[256:300] == body.read(44)
    assert content[300:1000] == body.read()


def test_what_is_switched_off_is_off_for_the_parts_too(server: tuple[ApiServer, str]) -> None:
    """An outage is of the service, whoever asks."""
    outages = Outages()
    away = context("http://127.0.0.1:9", aws=ApiServer(outages).door)
    outages.switch({"services": ["s3"]})

    with pytest.raises(ClientError, match="ServiceUnavailable"):
        away.client("s3").list_buckets()
