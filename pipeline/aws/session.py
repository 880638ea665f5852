"""One door to AWS: `Aws.call` sends a request and turns every failure into an AwsError in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from pipeline.config import Config
from pipeline.errors import AwsError, ConfigError

if TYPE_CHECKING:
    import boto3

REMEDIES = {
    "AccessDenied": "give the role this permission, or use another role; `onnxship doctor` shows who you are",
    "AccessDeniedException": "give the role this permission, or use another role; `onnxship doctor` shows who you are",
    "ExpiredToken": "sign in again; nothing was decided on missing data",
    "ExpiredTokenException": "sign in again; nothing was decided on missing data",
    "Throttling": "wait a minute and run the same command again: it continues where it stopped",
    "ThrottlingException": "wait a minute and run the same command again: it continues where it stopped",
}
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
OTHER_REMEDY = "read AWS's message above; the same command can be run again safely"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a call is tried, and for how long each time."""

    attempts: int = 3
    connect_s: int = 10
    read_s: int = 60


@dataclass(frozen=True)
class Aws:
    """The account that a command acts in, and its clients. Nothing but `call` and `pages` reaches AWS."""

    account: str
    region: str
    endpoint_url: str | None
    _session: boto3.Session = field(repr=False)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)
    _patience: Patience = field(default=Patience(), repr=False)

    def briefly(self) -> Aws:
        """The same account, asked once and waited for 3 s: for what must not hold up what matters more."""
        return replace(self, _clients={}, _patience=Patience(attempts=1, connect_s=3, read_s=3))

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        """Send one request; `operation` is boto3's method name. Raises AwsError with AWS's code and message."""
        client = self._client(service, region or self.region)
        try:
            return dict(getattr(client, operation)(**request))
        except ClientError as error:
            raise _refused(service, operation, error) from error
        except BotoCoreError as error:
            raise _unreachable(service, operation, error) from error

    def pages(
        self, service: str, operation: str, key: str, /, *, region: str | None = None, **request: Any
    ) -> Iterator[Any]:
        """Every element of `key` over all pages of a list operation."""
        client = self._client(service, region or self.region)
        try:
            for page in client.get_paginator(operation).paginate(**request):
                yield from page.get(key, [])
        except ClientError as error:
            raise _refused(service, operation, error) from error
        except BotoCoreError as error:
            raise _unreachable(service, operation, error) from error

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._clients:
            from botocore.config import Config as BotoConfig

            # Attempts with full jitter, said here so that a change of botocore's default is no change of ours.
            settings = BotoConfig(
                retries={"mode": "standard", "total_max_attempts": self._patience.attempts},
                connect_timeout=self._patience.connect_s,
                read_timeout=self._patience.read_s,
                s3={"addressing_style": "path"} if self.endpoint_url else {},
            )
            self._clients[service, region] = self._session.client(service, region_name=region, config=settings)
        return self._clients[service, region]


def body_of(answer: dict[str, Any], what: str) -> bytes:
    """The bytes of a streamed answer. They arrive after the call has returned, so this too can fail on the way."""
    try:
        return bytes(answer["Body"].read())
    except BotoCoreError as error:
        raise AwsError(f"{what} could not be read to its end: {error}", "run the same command again") from error


def connect(config: Config) -> Aws:
    """Clients for the configuration's environment, once STS has confirmed that the account is the right one.

    Raises ConfigError (exit 2) when the credentials belong to another account, AwsError when there are none.
    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """
    aws = connect_unchecked(config)
    identity = aws.call("sts", "get_caller_identity")
    if identity["Account"] != config.environment.account:
        raise ConfigError(
            f"The credentials belong to account {identity['Account']} ({identity['Arn']}), but environment "
            f"`{config.environment_name}` is account {config.environment.account}.",
            _right_account(config.environment.account, aws.endpoint_url),
        )
    return aws


def connect_unchecked(config: Config) -> Aws:
    """The same clients without asking whose credentials they are; only `doctor` needs that."""
    import boto3  # a third of a second, which commands that stay on this machine save

    session = boto3.Session(region_name=config.environment.region)
    endpoint_url = session.client("sts", region_name=config.environment.region).meta.endpoint_url
    is_aws = endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    return Aws(config.environment.account, config.environment.region, None if is_aws else endpoint_url, session)


def _right_account(account: str, endpoint_url: str | None) -> str:
    remedy = f"sign in to {account}, or choose the environment with `--env`"
    if urlsplit(endpoint_url or "").hostname not in LOOPBACK_HOSTS:
        return remedy
    return f"the local AWS keeps the account it began with: `onnxship rehearse down`, then up again; or {remedy}"


def _refused(service: str, operation: str, error: ClientError) -> AwsError:
    answer = error.response.get("Error", {})
    code, message = answer.get("Code", ""), answer.get("Message", "")
    return AwsError(
        f"{service}:{operation} was refused: {code}: {message}",
        REMEDIES.get(code, OTHER_REMEDY),
        code=code,
        message=message,
    )


def _unreachable(service: str, operation: str, error: BotoCoreError) -> AwsError:
    if isinstance(error, NoCredentialsError):
        return AwsError(
            "There are no AWS credentials.",
            "run `aws sso login`, or try it all without AWS: `onnxship rehearse up`",
            code="NoCredentials",
        )
    if isinstance(error, EndpointConnectionError):
        return AwsError(f"{service}:{operation}: {error}", _reconnect(error.kwargs["endpoint_url"]))
    return AwsError(f"{service}:{operation} failed: {error}", OTHER_REMEDY)


def _reconnect(endpoint_url: str) -> str:
    if urlsplit(endpoint_url).hostname not in LOOPBACK_HOSTS:
        return "check the network, or AWS_ENDPOINT_URL if it is set"
    return (
        "the local AWS that AWS_ENDPOINT_URL names has ended: `onnxship rehearse up` if none runs, then "
        'eval "$(onnxship rehearse env)" again; or open a new shell'
    )
