"""A service that is switched off answers 503 in its own protocol, and its registry too; the others go on."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError


@pytest.fixture
def switch(up: dict[str, Any]) -> Iterator[Callable[..., httpx.Response]]:
    """`switch("s3", "ecr")`: exactly these are off; all are back at the end."""

    def post(*services: str) -> httpx.Response:
        return httpx.post(f"{up['endpoint']}/_rehearsal/outage", json={"services": list(services)})

    yield post
    post()


def code_of(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ClientError) as refused:
        call()
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_what_is_off_answers_503_until_it_is_back(client, switch, up):
    """S3 and ECR are away, ECS is not; afterwards all answer as before."""
    s3, ecr, ecs = client("s3"), client("ecr"), client("ecs")

    assert {"services": ["ecr", "s3"]} == switch("s3", "ecr").json()
    assert {"services": ["ecr", "s3"]} == httpx.get(f"{up['endpoint']}/_rehearsal/outage").json()
    assert (503, "ServiceUnavailable") == code_of(s3.list_buckets)
    assert (503, "ServiceUnavailable") == code_of(lambda: s3.put_object(Bucket="b", Key="k", Body=b"x" * 100_000))
    assert (503, "ServiceUnavailable") == code_of(ecr.describe_repositories)
    assert 200 == ecs.list_clusters()["ResponseMetadata"]["HTTPStatusCode"]

    switch()
    assert 200 == s3.list_buckets()["ResponseMetadata"]["HTTPStatusCode"]


def test_a_service_goes_by_the_name_that_boto3_gives_it(client, switch):
    """Requests for `elbv2` are signed for `elasticloadbalancing`."""
    switch("elbv2")

    assert (503, "ServiceUnavailable") == code_of(client("elbv2").describe_load_balancers)


def test_the_registry_is_away_with_ecr(client, switch, up):
    """Nothing can be pulled or pushed, whatever password one has."""
    token = client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    ask = lambda: httpx.get(f"http://{up['registry']}/v2/", auth=(user, password)).status_code  # noqa: E731
    assert 200 == ask()

    switch("ecr")

    assert 503 == ask()


def test_a_service_that_aws_does_not_have_is_refused(switch, up):
    """A misspelt name must not look like an outage that nobody noticed."""
    refused = switch("s4")

    assert (400, True) == (refused.status_code, "no service s4" in refused.text)
    assert {"services": []} == httpx.get(f"{up['endpoint']}/_rehearsal/outage").json()
