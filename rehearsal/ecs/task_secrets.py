"""Secrets of a container definition, resolved as the container agent does before it starts the container.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
"""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from rehearsal.context import Context


class SecretMissing(Exception):
    """A secret cannot be had; the text is the container agent's."""


async def resolve_secrets(context: Context, secrets: list[dict[str, str]]) -> dict[str, str]:
    """Environment variable -> value."""
    return {secret["name"]: await _value(context, secret["valueFrom"]) for secret in secrets}


async def _value(context: Context, source: str) -> str:
    try:
        if ":secretsmanager:" in source:
            return await _secret(context, source)
        name = source.partition(":parameter")[2] or source
        answer = await context.call("ssm", "get_parameter", Name=name, WithDecryption=True)
        return str(answer["Parameter"]["Value"])
    except ClientError as error:
        raise SecretMissing(
            f"unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret"
            f" from {'asm' if ':secretsmanager:' in source else 'ssm'}: {error.response['Error']['Code']}: {source}"
        ) from error


async def _secret(context: Context, source: str) -> str:
    """arn:aws:secretsmanager:region:account:secret:name[:json-key:version-stage:version-id]"""
    parts = source.split(":")
    key, stage, version = (*parts[7:], "", "", "")[:3]
    request: dict[str, Any] = {"SecretId": ":".join(parts[:7])}
    request |= {"VersionStage": stage} if stage else {}
    request |= {"VersionId": version} if version else {}
    text = str((await context.call("secretsmanager", "get_secret_value", **request))["SecretString"])
    if not key:
        return text
    try:
        return str(json.loads(text)[key])
    except (ValueError, KeyError) as error:
        raise SecretMissing(
            "unable to pull secrets or registry auth: retrieved secret from Secrets Manager did not contain json key"
            f" {key}"
        ) from error
