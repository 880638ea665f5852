"""boto3's clients, and its errors told apart. boto3 is imported here alone, and late: a local model needs none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model_service.errors import StartRefused
from model_service.store.transfer import Transfer

# Besides every 5xx: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})


class Broken(Exception):
    """A request that failed, or an answer that ended early, for a reason that may pass."""


def aws_client(service: str, transfer: Transfer, *, retries: int = 0, region: str | None = None) -> Any:
    """A client of an AWS service; credentials, region and endpoint are boto3's business."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": retries + 1},
        connect_timeout=transfer.connect_timeout_s,
        read_timeout=transfer.read_timeout_s,
        max_pool_connections=max(transfer.connections, 10),
        tcp_keepalive=True,
        # The manifest's sha256 is checked in any case; a second checksum would only cost CPU.
        response_checksum_validation="when_required",
    )
    return boto3.client(service, config=config, region_name=region)


@contextmanager
def told_apart(address: str) -> Iterator[None]:
    """Turns what boto3 raises in the block into Broken, if it may pass, or StartRefused; both name `address`."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    connection = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)
    try:
        yield
    except exceptions.ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
            raise StartRefused(f"{address} changed while it was read: its ETag is another now") from error
        kind = Broken if _is_transient(error.response) else StartRefused
        raise kind(f"cannot read {address}: {error}") from error
    except (*connection, HTTPError) as error:  # urllib3's own: TLS errors in the middle of an answer
        raise Broken(f"cannot read {address}: {error}") from error
    except exceptions.BotoCoreError as error:
        raise StartRefused(f"cannot read {address}: {error}") from error


def _is_transient(response: dict[str, Any]) -> bool:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or response.get("Error", {}).get("Code") in TRANSIENT_CODES
