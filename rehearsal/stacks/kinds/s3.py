"""AWS::S3::Bucket and its policy."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, words

RULE_TEXTS = {"Id": "ID", "Status": "Status", "AbortIncompleteMultipartUpload": "AbortIncompleteMultipartUpload"}
FILTERS = ("Prefix", "TagFilters", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
RULE_KNOWN = {
    *RULE_TEXTS, *FILTERS, "ExpirationInDays", "ExpiredObjectDeleteMarker", "NoncurrentVersionExpiration",
    "NoncurrentVersionTransitions", "Transitions",
}  # fmt: skip


def create(work: Work) -> None:
    name = work.get("BucketName") or work.name(63, lower=True)
    place = {} if work.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": work.region}}
    if _exists(work, name):  # S3 in us-east-1 answers 200 to its owner
        raise ResourceFailed(f"{name} already exists", "AlreadyExists")
    work.call("s3", "create_bucket", Bucket=name, **place)
    work.made(name)
    update(work)


def _exists(work: Work, name: str) -> bool:
    return any(bucket["Name"] == name for bucket in work.call("s3", "list_buckets")["Buckets"])


def update(work: Work) -> None:
    """Set each configuration that is new or different; remove those that left the template."""
    for name, (put, argument, body, remove) in _CONFIGURATIONS.items():
        if name not in work.changed:
            continue
        if name in work.properties:
            configuration = body(work.get(name))
            work.send("s3", put, {argument: configuration}, Bucket=work.physical_id)
        elif remove:
            work.call("s3", remove, Bucket=work.physical_id)
        else:  # versioning cannot be removed, only suspended
            work.send("s3", put, {argument: {"Status": "Suspended"}}, Bucket=work.physical_id)


def _encryption(value: dict[str, Any]) -> dict[str, Any]:
    rules = []
    for rule in value["ServerSideEncryptionConfiguration"]:
        own = {key: item for key, item in rule.items() if key != "ServerSideEncryptionByDefault"}
        rules.append(own | {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]})
    return {"Rules": rules}


def _lifecycle(value: dict[str, Any]) -> dict[str, Any]:
    return {"Rules": [_lifecycle_rule(rule) for rule in value["Rules"]]}


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of the template as one of the API, which nests what the template keeps flat."""
    if unknown := sorted(set(rule) - RULE_KNOWN):
        raise ResourceFailed(f"property {unknown[0]} of a lifecycle rule is not rehearsed", "InvalidRequest")
    made = {RULE_TEXTS[key]: value for key, value in rule.items() if key in RULE_TEXTS}
    made["Filter"] = _lifecycle_filter(rule)
    expiration = {
        "Days": rule.get("ExpirationInDays"),
        "ExpiredObjectDeleteMarker": rule.get("ExpiredObjectDeleteMarker"),
    }
    if given := {key: value for key, value in expiration.items() if value is not None}:
        made["Expiration"] = given
    if "NoncurrentVersionExpiration" in rule:
        made["NoncurrentVersionExpiration"] = rule["NoncurrentVersionExpiration"]
    if "Transitions" in rule:
        made["Transitions"] = [
            {"StorageClass": move["StorageClass"], "Days": move["TransitionInDays"]} for move in rule["Transitions"]
        ]
    if "NoncurrentVersionTransitions" in rule:
        made["NoncurrentVersionTransitions"] = [
            {"StorageClass": move["StorageClass"], "NoncurrentDays": move["TransitionInDays"]}
            for move in rule["NoncurrentVersionTransitions"]
        ]
    return made


def _lifecycle_filter(rule: dict[str, Any]) -> dict[str, Any]:
    given = {key: rule[key] for key in FILTERS if key in rule}
    tags = given.pop("TagFilters", [])
    if len(given) + len(tags) > 1:
        return {"And": given | ({"Tags": tags} if tags else {})}
    return {"Tag": tags[0]} if tags else given or {"Prefix": ""}


def _same(value: Any) -> Any:
    return value


def _tag_set(value: Any) -> dict[str, Any]:
    return {"TagSet": value}


# property -> (operation that sets it, its argument, the argument's form, operation that removes it)
_CONFIGURATIONS: dict[str, tuple[str, str, Any, str]] = {
    "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration", _same, ""),
    "PublicAccessBlockConfiguration": (
        "put_public_access_block", "PublicAccessBlockConfiguration", _same, "delete_public_access_block",
    ),
    "BucketEncryption": (
        "put_bucket_encryption", "ServerSideEncryptionConfiguration", _encryption, "delete_bucket_encryption",
    ),
    "OwnershipControls": (
        "put_bucket_ownership_controls", "OwnershipControls", _same, "delete_bucket_ownership_controls",
    ),
    "LifecycleConfiguration": (
        "put_bucket_lifecycle_configuration", "LifecycleConfiguration", _lifecycle, "delete_bucket_lifecycle",
    ),
    "Tags": ("put_bucket_tagging", "Tagging", _tag_set, "delete_bucket_tagging"),
}  # fmt: skip


def attributes(work: Work) -> dict[str, Any]:
    name, region = work.physical_id, work.region
    return {
        "Arn": f"arn:aws:s3:::{name}",
        "DomainName": f"{name}.s3.amazonaws.com",
        "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        "DualStackDomainName": f"{name}.s3.dualstack.{region}.amazonaws.com",
        "WebsiteURL": f"http://{name}.s3-website-{region}.amazonaws.com",
    }


def delete(work: Work) -> None:
    """A bucket that still holds objects or versions stays, and with it the stack."""
    with ignoring_missing("NoSuchBucket"):
        work.call("s3", "delete_bucket", Bucket=work.physical_id)


def put_policy(work: Work) -> None:
    bucket, document = work.get("Bucket"), json.dumps(work.get("PolicyDocument"))
    work.call("s3", "put_bucket_policy", Bucket=bucket, Policy=document)
    work.made(bucket)


def update_policy(work: Work) -> None:
    document = json.dumps(work.get("PolicyDocument"))
    work.call("s3", "put_bucket_policy", Bucket=work.physical_id, Policy=document)


def delete_policy(work: Work) -> None:
    with ignoring_missing("NoSuchBucket", "NoSuchBucketPolicy"):
        work.call("s3", "delete_bucket_policy", Bucket=work.physical_id)


KINDS = (
    Kind(
        "AWS::S3::Bucket", words("BucketName") | set(_CONFIGURATIONS), create, delete, update, words("BucketName"),
        attributes, "BucketName",
    ),
    Kind(
        "AWS::S3::BucketPolicy", words("Bucket PolicyDocument"), put_policy, delete_policy, update_policy,
        words("Bucket"), recorded_only=always,
    ),
)  # fmt: skip
