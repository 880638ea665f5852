"""Reading a secret from Secrets Manager."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from model_service.errors import StartRefused
from model_service.store.secrets import read_secret
from tests.model_service.conftest import send


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager of eu-west-1 in a moto server of its own; the environment names another region."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield boto3.client("secretsmanager", region_name="eu-west-1")
    send(port, "POST", "/moto-api/reset")  # moto's state outlives its server
    server.stop()


def test_reads_the_current_version(secrets: Any) -> None:
    """The text that was put last, from the region in the ARN."""
    arn = secrets.create_secret(Name="keys", SecretString="one")["ARN"]
    secrets.put_secret_value(SecretId=arn, SecretString="two")

    assert "two" == read_secret(arn)


def test_names_a_secret_that_is_not_there(secrets: Any) -> None:
    """A refusal has the ARN and the service's own words."""
    arn = secrets.create_secret(Name="keys", SecretString="one")["ARN"].replace("keys", "locks")

    with pytest.raises(StartRefused, match=rf"cannot read the secret {arn}: .*ResourceNotFoundException"):
        read_secret(arn)


def test_refuses_bytes(secrets: Any) -> None:
    """A binary secret is refused without being shown."""
    arn = secrets.create_secret(Name="keys", SecretBinary=b"hidden")["ARN"]

    with pytest.raises(StartRefused, match=f"{arn} holds bytes, not text") as refused:
        read_secret(arn)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("name", ["keys", "arn:aws:s3:::bucket", ""])
def test_wants_an_arn(name: str) -> None:
    """What is no ARN of a secret is refused before anything is asked."""
    with pytest.raises(StartRefused, match="is no ARN of a secret"):
        read_secret(name)
