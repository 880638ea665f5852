"""AWS::ECR::Repository."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.casing import as_bool
from rehearsal.stacks.kind import Kind, Work, ignoring_missing, tag_changes, words


def create(work: Work) -> None:
    name = work.get("RepositoryName") or work.name(256, lower=True)
    own = work.only("EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability", "Tags")
    made = work.send("ecr", "create_repository", own, repositoryName=name, **_exclusions(work))
    work.made(made["repository"]["repositoryName"])
    _set_policies(work)


def update(work: Work) -> None:
    repository = {"repositoryName": work.physical_id}
    if work.changed & {"ImageTagMutability", "ImageTagMutabilityExclusionFilters"}:
        mutability = work.get("ImageTagMutability", "MUTABLE")
        work.call("ecr", "put_image_tag_mutability", imageTagMutability=mutability, **repository, **_exclusions(work))
    if "ImageScanningConfiguration" in work.changed:
        scanning = {"ImageScanningConfiguration": work.get("ImageScanningConfiguration", {"ScanOnPush": False})}
        work.send("ecr", "put_image_scanning_configuration", scanning, **repository)
    _set_policies(work)
    put, remove = tag_changes(work)
    arn = attributes(work)["Arn"]
    if put:
        work.call("ecr", "tag_resource", resourceArn=arn, tags=put)
    if remove:
        work.call("ecr", "untag_resource", resourceArn=arn, tagKeys=remove)


def _exclusions(work: Work) -> dict[str, Any]:
    filters = [
        {
            "filterType": entry["ImageTagMutabilityExclusionFilterType"],
            "filter": entry["ImageTagMutabilityExclusionFilterValue"],
        }
        for entry in work.get("ImageTagMutabilityExclusionFilters", [])
    ]
    return {"imageTagMutabilityExclusionFilters": filters} if filters else {}


def _set_policies(work: Work) -> None:
    repository = {"repositoryName": work.physical_id}
    if "LifecyclePolicy" in work.changed:
        text = work.get("LifecyclePolicy", {}).get("LifecyclePolicyText")
        if text:
            work.call("ecr", "put_lifecycle_policy", lifecyclePolicyText=_json(text), **repository)
        else:
            work.call("ecr", "delete_lifecycle_policy", **repository)
    if "RepositoryPolicyText" in work.changed:
        policy = work.get("RepositoryPolicyText")
        if policy:
            work.call("ecr", "set_repository_policy", policyText=_json(policy), **repository)
        else:
            work.call("ecr", "delete_repository_policy", **repository)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def attributes(work: Work) -> dict[str, Any]:
    found = work.call("ecr", "describe_repositories", repositoryNames=[work.physical_id])["repositories"][0]
    return {"Arn": found["repositoryArn"], "RepositoryUri": found["repositoryUri"]}


def delete(work: Work) -> None:
    """A repository that still holds images stays, and with it the stack, unless EmptyOnDelete is set."""
    with ignoring_missing("RepositoryNotFoundException"):
        empty_first = as_bool(work.get("EmptyOnDelete", False))
        work.call("ecr", "delete_repository", repositoryName=work.physical_id, force=empty_first)


KINDS = (
    Kind(
        "AWS::ECR::Repository",
        words(
            "EmptyOnDelete EncryptionConfiguration ImageScanningConfiguration ImageTagMutability "
            "ImageTagMutabilityExclusionFilters LifecyclePolicy RepositoryName RepositoryPolicyText Tags"
        ),
        create, delete, update, words("EncryptionConfiguration RepositoryName"), attributes, "RepositoryName",
    ),
)  # fmt: skip
