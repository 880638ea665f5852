"""AWS::IAM: stored by moto. Nothing is authorised in a rehearsal, so no policy is ever proven by one."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, tag_changes, words

GONE = "NoSuchEntity"


def create_role(work: Work) -> None:
    name = work.get("RoleName") or work.name()
    own = work.without("RoleName", "Policies", "ManagedPolicyArns")
    work.made(work.send("iam", "create_role", own, RoleName=name)["Role"]["RoleName"])
    _set_role_policies(work)


def update_role(work: Work) -> None:
    role = {"RoleName": work.physical_id}
    if "AssumeRolePolicyDocument" in work.changed:
        document = json.dumps(work.get("AssumeRolePolicyDocument"))
        work.call("iam", "update_assume_role_policy", PolicyDocument=document, **role)
    if work.changed & {"Description", "MaxSessionDuration"}:
        wanted = {"Description": "", "MaxSessionDuration": 3600} | work.only("Description", "MaxSessionDuration")
        work.send("iam", "update_role", wanted, **role)
    if "PermissionsBoundary" in work.changed:
        _set_boundary(work)
    _set_role_policies(work)
    put, remove = tag_changes(work)
    if put:
        work.call("iam", "tag_role", Tags=put, **role)
    if remove:
        work.call("iam", "untag_role", TagKeys=remove, **role)


def _set_boundary(work: Work) -> None:
    if "PermissionsBoundary" in work.properties:
        boundary = work.get("PermissionsBoundary")
        work.call("iam", "put_role_permissions_boundary", RoleName=work.physical_id, PermissionsBoundary=boundary)
    else:
        work.call("iam", "delete_role_permissions_boundary", RoleName=work.physical_id)


def _set_role_policies(work: Work) -> None:
    role = {"RoleName": work.physical_id}
    before, now = _policies(work.previous.get("Policies", [])), _policies(work.get("Policies", []))
    for name in set(before) - set(now):
        work.call("iam", "delete_role_policy", PolicyName=name, **role)
    for name, document in now.items():
        if before.get(name) != document:
            work.call("iam", "put_role_policy", PolicyName=name, PolicyDocument=json.dumps(document), **role)
    attached, wanted = set(work.previous.get("ManagedPolicyArns", [])), set(work.get("ManagedPolicyArns", []))
    for arn in sorted(attached - wanted):
        work.call("iam", "detach_role_policy", PolicyArn=arn, **role)
    for arn in sorted(wanted - attached):
        work.call("iam", "attach_role_policy", PolicyArn=arn, **role)


def _policies(listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {policy["PolicyName"]: policy["PolicyDocument"] for policy in listed}


def role_attributes(work: Work) -> dict[str, Any]:
    role = work.call("iam", "get_role", RoleName=work.physical_id)["Role"]
    return {"Arn": role["Arn"], "RoleId": role["RoleId"]}


def delete_role(work: Work) -> None:
    role = {"RoleName": work.physical_id}
    with ignoring_missing(GONE):
        for policy in work.call("iam", "list_attached_role_policies", **role)["AttachedPolicies"]:
            work.call("iam", "detach_role_policy", PolicyArn=policy["PolicyArn"], **role)
        for name in work.call("iam", "list_role_policies", **role)["PolicyNames"]:
            work.call("iam", "delete_role_policy", PolicyName=name, **role)
        work.call("iam", "delete_role", **role)


def create_policy(work: Work) -> None:
    name = work.get("ManagedPolicyName") or work.name(128)
    own = work.without("ManagedPolicyName", "Roles")
    work.made(work.send("iam", "create_policy", own, PolicyName=name)["Policy"]["Arn"])
    _attach_to_roles(work)


def update_policy(work: Work) -> None:
    if "PolicyDocument" in work.changed:
        _forget_old_versions(work)
        document = json.dumps(work.get("PolicyDocument"))
        work.call(
            "iam", "create_policy_version", PolicyArn=work.physical_id, PolicyDocument=document, SetAsDefault=True
        )
    _attach_to_roles(work)


def _forget_old_versions(work: Work) -> None:
    """A policy keeps at most five versions."""
    for version in work.call("iam", "list_policy_versions", PolicyArn=work.physical_id)["Versions"]:
        if not version["IsDefaultVersion"]:
            work.call("iam", "delete_policy_version", PolicyArn=work.physical_id, VersionId=version["VersionId"])


def _attach_to_roles(work: Work) -> None:
    before, now = set(work.previous.get("Roles", [])), set(work.get("Roles", []))
    for role in sorted(before - now):
        with ignoring_missing(GONE):
            work.call("iam", "detach_role_policy", RoleName=role, PolicyArn=work.physical_id)
    for role in sorted(now - before):
        work.call("iam", "attach_role_policy", RoleName=role, PolicyArn=work.physical_id)


def policy_attributes(work: Work) -> dict[str, Any]:
    policy = work.call("iam", "get_policy", PolicyArn=work.physical_id)["Policy"]
    return {
        "PolicyArn": work.physical_id,
        "PolicyId": policy["PolicyId"],
        "DefaultVersionId": policy["DefaultVersionId"],
        "AttachmentCount": policy["AttachmentCount"],
        "IsAttachable": policy["IsAttachable"],
    }


def delete_policy(work: Work) -> None:
    for role in work.get("Roles", []):
        with ignoring_missing(GONE):
            work.call("iam", "detach_role_policy", RoleName=role, PolicyArn=work.physical_id)
    with ignoring_missing(GONE):
        _forget_old_versions(work)
        work.call("iam", "delete_policy", PolicyArn=work.physical_id)


def create_provider(work: Work) -> None:
    work.made(work.send("iam", "create_open_id_connect_provider", work.without())["OpenIDConnectProviderArn"])


def update_provider(work: Work) -> None:
    provider = {"OpenIDConnectProviderArn": work.physical_id}
    if "ClientIdList" in work.changed:  # moto has no AddClientIDToOpenIDConnectProvider
        raise ResourceFailed("changing a provider's ClientIdList is not rehearsed", "InvalidRequest")
    if "ThumbprintList" in work.changed:
        prints = work.get("ThumbprintList", [])
        work.call("iam", "update_open_id_connect_provider_thumbprint", ThumbprintList=prints, **provider)
    put, remove = tag_changes(work)
    if put:
        work.call("iam", "tag_open_id_connect_provider", Tags=put, **provider)
    if remove:
        work.call("iam", "untag_open_id_connect_provider", TagKeys=remove, **provider)


def delete_provider(work: Work) -> None:
    with ignoring_missing(GONE):
        work.call("iam", "delete_open_id_connect_provider", OpenIDConnectProviderArn=work.physical_id)


KINDS = (
    Kind(
        "AWS::IAM::Role",
        words(
            "AssumeRolePolicyDocument Description ManagedPolicyArns MaxSessionDuration Path PermissionsBoundary "
            "Policies RoleName Tags"
        ),
        create_role, delete_role, update_role, words("Path RoleName"), role_attributes, "RoleName", always,
    ),
    Kind(
        "AWS::IAM::ManagedPolicy",
        words("Description ManagedPolicyName Path PolicyDocument Roles"),
        create_policy, delete_policy, update_policy, words("Description ManagedPolicyName Path"),
        policy_attributes, "ManagedPolicyName", always,
    ),
    Kind(
        "AWS::IAM::OIDCProvider",
        words("ClientIdList Tags ThumbprintList Url"),
        create_provider, delete_provider, update_provider, words("Url"),
        lambda work: {"Arn": work.physical_id}, recorded_only=always,
    ),
)  # fmt: skip
