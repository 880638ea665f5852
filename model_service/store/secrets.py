"""Secrets of AWS Secrets Manager, read when the service needs them."""

from __future__ import annotations

import re

from model_service.errors import StartRefused
from model_service.store.aws import Broken, aws_client, told_apart
from model_service.store.transfer import Transfer

ARN = re.compile(r"arn:[a-z0-9-]+:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:.+")
RETRIES = 4


def read_secret(arn: str) -> str:
    """The current text of a secret, from the region in its ARN. Raises StartRefused; never with the secret in it."""
    named = ARN.fullmatch(arn)
    if not named:
        raise StartRefused(f"{arn!r} is no ARN of a secret (arn:aws:secretsmanager:region:account:secret:name)")
    try:
        with told_apart(f"the secret {arn}"):
            client = aws_client("secretsmanager", Transfer(), retries=RETRIES, region=named["region"])
            answer = client.get_secret_value(SecretId=arn)
    except Broken as error:
        raise StartRefused(str(error)) from error
    if "SecretString" not in answer:
        raise StartRefused(f"the secret {arn} holds bytes, not text")
    return str(answer["SecretString"])
