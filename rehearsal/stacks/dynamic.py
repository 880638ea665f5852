"""Dynamic references, {{resolve:...}}: read when a resource is made, never stored and never compared.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rehearsal.stacks.errors import ResourceFailed

REFERENCE = re.compile(r"\{\{resolve:([^:}]+):([^}]+)\}\}")
Call = Callable[..., dict[str, Any]]


def with_secrets(value: Any, call: Call) -> Any:
    """`value` with every dynamic reference replaced by what it names."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _read(match.group(1), match.group(2), call), value)
    if isinstance(value, list):
        return [with_secrets(item, call) for item in value]
    if isinstance(value, dict):
        return {key: with_secrets(item, call) for key, item in value.items()}
    return value


def _read(service: str, rest: str, call: Call) -> str:
    if service == "secretsmanager":
        return _secret(rest, call)
    if service in ("ssm", "ssm-secure"):
        answer = call("ssm", "get_parameter", Name=rest, WithDecryption=service == "ssm-secure")
        return str(answer["Parameter"]["Value"])
    raise ResourceFailed(f"dynamic references to {service} are not rehearsed", "InvalidRequest")


def _secret(rest: str, call: Call) -> str:
    """secret-id:SecretString:json-key:version-stage:version-id, all but the first optional; the id may be an ARN."""
    parts = rest.split(":")
    length = 7 if parts[0] == "arn" else 1
    secret_id, (kind, key, stage, version, *_) = ":".join(parts[:length]), [*parts[length:], "", "", "", ""]
    if kind not in ("", "SecretString"):
        raise ResourceFailed(f"a dynamic reference reads SecretString, not {kind}", "InvalidRequest")
    wanted = {"VersionStage": stage, "VersionId": version}
    text = call("secretsmanager", "get_secret_value", SecretId=secret_id, **{k: v for k, v in wanted.items() if v})
    secret = str(text["SecretString"])
    return str(json.loads(secret)[key]) if key else secret
