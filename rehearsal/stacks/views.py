"""Stacks, change sets and resources as the API shows them."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.parameters import declared, shown
from rehearsal.stacks.requests import WHY_IAM, ValidationError, needed_capabilities
from rehearsal.stacks.stack import ChangeSet, Resource, Stack, Target
from rehearsal.stacks.template import Template

PAGE = 100
NOT_CHECKED = {"StackDriftStatus": "NOT_CHECKED"}


def page(key: str, items: list[Any], token: str | None) -> dict[str, Any]:
    """One page of a listing and, where there is more, the token for the next."""
    start = int(token or 0)
    more = {"NextToken": str(start + PAGE)} if len(items) > start + PAGE else {}
    return {key: items[start : start + PAGE], **more}


def stack(it: Stack) -> dict[str, Any]:
    """As DescribeStacks shows it."""
    return _given(
        StackId=it.id,
        StackName=it.name,
        ChangeSetId=it.change_set_id,
        Description=it.target.template.description or None,
        Parameters=shown(it.target.template, it.target.parameters),
        CreationTime=it.created,
        LastUpdatedTime=it.updated,
        DeletionTime=it.deleted,
        RollbackConfiguration={},
        StackStatus=it.status,
        StackStatusReason=it.reason,
        DisableRollback=it.on_failure == "DO_NOTHING",
        NotificationARNs=[],
        Capabilities=it.capabilities,
        Outputs=it.outputs,
        RoleARN=it.role_arn,
        Tags=_tags(it.target),
        EnableTerminationProtection=it.is_protected,
        DriftInformation=NOT_CHECKED,
    )


def summary(it: Stack) -> dict[str, Any]:
    """As ListStacks shows it."""
    return _given(
        StackId=it.id,
        StackName=it.name,
        TemplateDescription=it.target.template.description or None,
        CreationTime=it.created,
        LastUpdatedTime=it.updated,
        DeletionTime=it.deleted,
        StackStatus=it.status,
        StackStatusReason=it.reason,
        DriftInformation=NOT_CHECKED,
    )


def resource(owner: Stack, it: Resource) -> dict[str, Any]:
    """As DescribeStackResources shows it."""
    return {"StackName": owner.name, "StackId": owner.id, "Timestamp": it.updated} | _resource(it)


def resource_detail(owner: Stack, it: Resource) -> dict[str, Any]:
    """As DescribeStackResource shows it."""
    metadata = json.dumps(it.declaration.get("Metadata", {}))
    return {"StackName": owner.name, "StackId": owner.id, "Metadata": metadata} | resource_summary(it)


def resource_summary(it: Resource) -> dict[str, Any]:
    """As ListStackResources shows it."""
    return {"LastUpdatedTimestamp": it.updated} | _resource(it)


def _resource(it: Resource) -> dict[str, Any]:
    return _given(
        LogicalResourceId=it.logical_id,
        PhysicalResourceId=it.physical_id or None,
        ResourceType=it.type_name,
        ResourceStatus=it.status,
        ResourceStatusReason=it.reason,
        DriftInformation={"StackResourceDriftStatus": "NOT_CHECKED"},
    )


def change_set(owner: Stack, it: ChangeSet) -> dict[str, Any]:
    """As DescribeChangeSet shows it, without its changes."""
    return change_set_summary(owner, it) | _given(
        Parameters=shown(it.target.template, it.target.parameters),
        NotificationARNs=[],
        RollbackConfiguration={},
        Capabilities=it.capabilities,
        Tags=_tags(it.target),
        OnStackFailure=it.on_stack_failure,
    )


def change_set_summary(owner: Stack, it: ChangeSet) -> dict[str, Any]:
    """As ListChangeSets shows it."""
    return _given(
        ChangeSetName=it.name,
        ChangeSetId=it.id,
        StackId=owner.id,
        StackName=owner.name,
        Description=it.description,
        CreationTime=it.created,
        ExecutionStatus=it.execution_status,
        Status=it.status,
        StatusReason=it.reason,
        IncludeNestedStacks=False,
    )


def validation(template: Template) -> dict[str, Any]:
    """As ValidateTemplate shows it."""
    members = ("ParameterKey", "DefaultValue", "NoEcho", "Description")
    parameters = [{name: it[name] for name in members if name in it} for it in declared(template)]
    summary = template_summary(template)
    names = ("Description", "Capabilities", "CapabilitiesReason", "DeclaredTransforms")
    return {"Parameters": parameters} | {name: summary[name] for name in names if name in summary}


def template_summary(template: Template) -> dict[str, Any]:
    """As GetTemplateSummary shows it."""
    needed, because = needed_capabilities(template)
    return _given(
        Parameters=declared(template),
        Description=template.description or None,
        Capabilities=needed,
        CapabilitiesReason=WHY_IAM.format(", ".join(because)) if needed else None,
        ResourceTypes=sorted({entry["Type"] for entry in template.resources.values()}),
        DeclaredTransforms=list(template.transforms),
        ResourceIdentifierSummaries=[],
    )


def resource_of(owner: Stack, logical_id: str) -> Resource:
    """One resource of a stack by its logical id."""
    if logical_id not in owner.resources:
        raise ValidationError(f"Resource {logical_id} does not exist for stack {owner.name}")
    return owner.resources[logical_id]


def _tags(target: Target) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in target.tags.items()]


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
