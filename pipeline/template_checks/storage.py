"""Rules on what must not be lost or seen: buckets, images, logs, secrets, and the stack's outputs."""

from __future__ import annotations

import json
from typing import Any

from pipeline.template_checks.reading import Faults, Template, is_true, items, target, text_of

PUBLIC_ACCESS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
KEEPING = ("Retain", "RetainExceptOnCreate")
KEPT_TAGS = ("release-", "content-")


def s3_private(template: Template) -> Faults:
    """Buckets block public access in all four ways (Security Hub S3.1, S3.8)."""
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        block = bucket.get("PublicAccessBlockConfiguration") or {}
        for setting in PUBLIC_ACCESS:
            if not is_true(block.get(setting)):
                yield logical_id, f"may become public; set PublicAccessBlockConfiguration.{setting}: true"


def s3_versioned(template: Template) -> Faults:
    """Buckets keep old versions: task definitions pin models by VersionId."""
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        if (bucket.get("VersioningConfiguration") or {}).get("Status") != "Enabled":
            yield logical_id, "forgets old versions; set VersioningConfiguration.Status: Enabled"


def s3_encrypted(template: Template) -> Faults:
    """Buckets say how they are encrypted."""
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        if not (bucket.get("BucketEncryption") or {}).get("ServerSideEncryptionConfiguration"):
            yield logical_id, "does not say how it is encrypted; set BucketEncryption"


def s3_no_acls(template: Template) -> Faults:
    """Objects belong to the bucket's owner, whoever writes them (Security Hub S3.12)."""
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        rules = items((bucket.get("OwnershipControls") or {}).get("Rules"))
        if [rule.get("ObjectOwnership") for rule in rules] != ["BucketOwnerEnforced"]:
            yield logical_id, "takes access lists; set OwnershipControls to BucketOwnerEnforced"


def s3_only_tls(template: Template) -> Faults:
    """Every bucket has a policy that denies requests without TLS (Security Hub S3.5)."""
    denying = {
        target(policy.get("Bucket"))
        for _, policy in template.of_type("AWS::S3::BucketPolicy")
        for statement in items((policy.get("PolicyDocument") or {}).get("Statement"))
        if statement.get("Effect") == "Deny"
        and str(((statement.get("Condition") or {}).get("Bool") or {}).get("aws:SecureTransport")).lower() == "false"
    }
    for logical_id, _ in template.of_type("AWS::S3::Bucket"):
        if logical_id not in denying:
            yield logical_id, "answers without TLS; deny aws:SecureTransport false in a bucket policy"


def s3_conditional_writes(template: Template) -> Faults:
    """Records, models and locks of the artifact bucket are written only under a condition.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
    """
    for logical_id, policy in template.of_type("AWS::S3::BucketPolicy"):
        guarded = "".join(
            text_of(statement.get("Resource"))
            for statement in items((policy.get("PolicyDocument") or {}).get("Statement"))
            if _denies_unconditional_writes(statement)
        )
        for prefix in ("releases/", "models/", "locks/"):
            if f"/{prefix}" not in guarded:
                yield logical_id, f"lets {prefix} be overwritten; deny s3:PutObject without s3:if-none-match there"


def _denies_unconditional_writes(statement: dict[str, Any]) -> bool:
    condition = statement.get("Condition") or {}
    return (
        statement.get("Effect") == "Deny"
        and "s3:PutObject" in items(statement.get("Action"))
        and str((condition.get("Null") or {}).get("s3:if-none-match")).lower() == "true"
        and str((condition.get("Bool") or {}).get("s3:ObjectCreationOperation")).lower() == "true"
    )


def s3_keeps_current_versions(template: Template) -> Faults:
    """No lifecycle rule expires current versions, and old versions only of locks; what gates measured may go."""
    for logical_id, bucket in template.of_type("AWS::S3::Bucket"):
        for rule in items((bucket.get("LifecycleConfiguration") or {}).get("Rules")):
            if rule.get("Prefix") == "loadtests/":
                continue
            if {"ExpirationInDays", "ExpirationDate"} & set(rule):
                yield logical_id, f"expires current versions (rule {rule.get('Id')}); releases stand on them"
            old = {"NoncurrentVersionExpiration", "NoncurrentVersionExpirationInDays"} & set(rule)
            if old and rule.get("Prefix") != "locks/":
                yield logical_id, f"expires old versions beyond locks/ (rule {rule.get('Id')}); releases pin them"


def ecr_immutable(template: Template) -> Faults:
    """Tags never move (Security Hub ECR.2)."""
    for logical_id, repository in template.of_type("AWS::ECR::Repository"):
        if repository.get("ImageTagMutability") != "IMMUTABLE":
            yield logical_id, "lets tags move; set ImageTagMutability: IMMUTABLE"


def ecr_scans(template: Template) -> Faults:
    """Images are scanned when they are pushed (Security Hub ECR.1)."""
    for logical_id, repository in template.of_type("AWS::ECR::Repository"):
        if not is_true((repository.get("ImageScanningConfiguration") or {}).get("ScanOnPush")):
            yield logical_id, "does not scan images; set ImageScanningConfiguration.ScanOnPush: true"


def ecr_keeps_releases(template: Template) -> Faults:
    """No lifecycle rule can expire an image that a rollback may need.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
    """
    for logical_id, repository in template.of_type("AWS::ECR::Repository"):
        text = (repository.get("LifecyclePolicy") or {}).get("LifecyclePolicyText") or "{}"
        for rule in json.loads(text).get("rules", []) if isinstance(text, str) else []:
            selection = rule.get("selection", {})
            tags = [*selection.get("tagPrefixList", []), *selection.get("tagPatternList", [])]
            harmless = tags and not any(_may_match_kept(tag) for tag in tags)
            if selection.get("tagStatus") != "untagged" and not harmless:
                yield (
                    logical_id,
                    f"may expire tagged images (rule {rule.get('rulePriority')}); releases stand on them",
                )


def _may_match_kept(tag: str) -> bool:
    start = tag.split("*")[0]
    return any(kept.startswith(start) or start.startswith(kept) for kept in KEPT_TAGS)


def data_outlives_the_stack(template: Template) -> Faults:
    """Buckets and repositories stay when their stack goes or replaces them."""
    for logical_id, resource in (template.data.get("Resources") or {}).items():
        if resource.get("Type") not in ("AWS::S3::Bucket", "AWS::ECR::Repository"):
            continue
        if resource.get("DeletionPolicy") not in KEEPING or resource.get("UpdateReplacePolicy") != "Retain":
            yield (
                logical_id,
                "goes with its stack; set DeletionPolicy: RetainExceptOnCreate, UpdateReplacePolicy: Retain",
            )


def log_retention(template: Template) -> Faults:
    """Logs are not kept, and paid for, for ever."""
    for logical_id, group in template.of_type("AWS::Logs::LogGroup"):
        if not group.get("RetentionInDays"):
            yield logical_id, "keeps logs for ever; set RetentionInDays"


def no_exports(template: Template) -> Faults:
    """Outputs travel as parameters: an export that is in use can never change."""
    for name, output in (template.data.get("Outputs") or {}).items():
        if "Export" in output:
            yield name, "is exported; `deploy` hands outputs on as parameters"
    if "Fn::ImportValue" in text_of(template.data.get("Resources") or {}):
        yield "Resources", "import another stack's export; take a parameter instead"


RULES = (
    s3_private,
    s3_versioned,
    s3_encrypted,
    s3_no_acls,
    s3_only_tls,
    s3_conditional_writes,
    s3_keeps_current_versions,
    ecr_immutable,
    ecr_scans,
    ecr_keeps_releases,
    data_outlives_the_stack,
    log_retention,
    no_exports,
)
