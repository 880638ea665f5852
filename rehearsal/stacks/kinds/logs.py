"""AWS::Logs::LogGroup."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.kind import Kind, Work, ignoring_missing, tag_changes, words


def create(work: Work) -> None:
    name = work.get("LogGroupName") or work.name(512)
    own = work.without("LogGroupName", "RetentionInDays")
    work.send("logs", "create_log_group", own, logGroupName=name)
    work.made(name)
    _set_retention(work)


def update(work: Work) -> None:
    _set_retention(work)
    put, remove = tag_changes(work)
    arn = attributes(work)["Arn"].removesuffix(":*")
    if put:
        work.send("logs", "tag_resource", {"Tags": put}, resourceArn=arn)
    if remove:
        work.call("logs", "untag_resource", resourceArn=arn, tagKeys=remove)


def _set_retention(work: Work) -> None:
    if "RetentionInDays" in work.properties:
        work.send("logs", "put_retention_policy", work.only("RetentionInDays"), logGroupName=work.physical_id)
    elif "RetentionInDays" in work.changed:
        work.call("logs", "delete_retention_policy", logGroupName=work.physical_id)


def attributes(work: Work) -> dict[str, Any]:
    return {"Arn": f"arn:aws:logs:{work.region}:{work.account}:log-group:{work.physical_id}:*"}


def delete(work: Work) -> None:
    with ignoring_missing("ResourceNotFoundException"):
        work.call("logs", "delete_log_group", logGroupName=work.physical_id)


KINDS = (
    Kind(
        "AWS::Logs::LogGroup", words("LogGroupName RetentionInDays Tags"), create, delete, update,
        words("LogGroupName"), attributes, "LogGroupName",
    ),
)  # fmt: skip
