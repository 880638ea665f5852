"""AWS::SecretsManager::Secret."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.kind import Kind, Work, ignoring_missing, tag_changes, words


def create(work: Work) -> None:
    name = work.get("Name") or f"{work.logical_id}-{work.name(24).rpartition('-')[2]}"
    own = work.without("Name", "SecretString", "GenerateSecretString")
    made = work.send("secretsmanager", "create_secret", own, Name=name, SecretString=_text(work))
    work.made(made["ARN"])


def update(work: Work) -> None:
    secret = {"SecretId": work.physical_id}
    own = {name: work.get(name) for name in ("Description", "KmsKeyId") if name in work.properties}
    text = {"SecretString": _text(work)} if work.changed & {"SecretString", "GenerateSecretString"} else {}
    if text or work.changed & {"Description", "KmsKeyId"}:
        work.send("secretsmanager", "update_secret", own, **secret, **text)
    put, remove = tag_changes(work)
    if put:
        work.call("secretsmanager", "tag_resource", Tags=put, **secret)
    if remove:
        work.call("secretsmanager", "untag_resource", TagKeys=remove, **secret)


def _text(work: Work) -> str:
    """The secret's value: given, or generated, alone or as one key of a JSON text."""
    recipe = work.get("GenerateSecretString")
    if recipe is None:
        return str(work.get("SecretString", ""))
    own = {key: value for key, value in recipe.items() if key not in ("SecretStringTemplate", "GenerateStringKey")}
    password = work.send("secretsmanager", "get_random_password", own)["RandomPassword"]
    if "GenerateStringKey" not in recipe:
        return str(password)
    return json.dumps(json.loads(recipe["SecretStringTemplate"]) | {recipe["GenerateStringKey"]: password})


def attributes(work: Work) -> dict[str, Any]:
    return {"Id": work.physical_id}


def delete(work: Work) -> None:
    with ignoring_missing("ResourceNotFoundException"):
        work.call("secretsmanager", "delete_secret", SecretId=work.physical_id)


KINDS = (
    Kind(
        "AWS::SecretsManager::Secret", words("Description GenerateSecretString KmsKeyId Name SecretString Tags"),
        create, delete, update, words("Name"), attributes, "Name",
    ),
)  # fmt: skip
