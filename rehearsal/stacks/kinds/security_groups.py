"""AWS::EC2::SecurityGroup and its rules, alone or inline. Moto stores them; nothing is filtered."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, words
from rehearsal.stacks.kinds.network import retag, tagged

PEERS = {
    "CidrIp": ("IpRanges", "CidrIp"),
    "CidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
    "SourceSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    "DestinationSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    "SourcePrefixListId": ("PrefixListIds", "PrefixListId"),
    "DestinationPrefixListId": ("PrefixListIds", "PrefixListId"),
}
GONE = ("InvalidGroup.NotFound", "InvalidPermission.NotFound", "InvalidSecurityGroupRuleId.NotFound")
# What a new group in a VPC allows when its template gives no egress.
ALLOW_ALL = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}
DIRECTIONS = {"SecurityGroupIngress": "ingress", "SecurityGroupEgress": "egress"}


def create_group(work: Work) -> None:
    made = work.call(
        "ec2",
        "create_security_group",
        GroupName=work.get("GroupName") or work.name(255),
        Description=work.get("GroupDescription"),
        **work.only("VpcId"),
        **tagged(work, "security-group"),
    )
    work.made(made["GroupId"])
    _authorize(work, "ingress", work.get("SecurityGroupIngress", []))
    if "SecurityGroupEgress" in work.properties:
        _revoke(work, "egress", [ALLOW_ALL])
        _authorize(work, "egress", work.get("SecurityGroupEgress"))


def update_group(work: Work) -> None:
    for name, direction in DIRECTIONS.items():
        fallback = [ALLOW_ALL] if direction == "egress" else []
        before, now = work.previous.get(name, fallback), work.get(name, fallback)
        _revoke(work, direction, [rule for rule in before if rule not in now])
        _authorize(work, direction, [rule for rule in now if rule not in before])
    retag(work)


def delete_group(work: Work) -> None:
    with ignoring_missing(*GONE):
        work.call("ec2", "delete_security_group", GroupId=work.physical_id)


def group_attributes(work: Work) -> dict[str, Any]:
    group = work.call("ec2", "describe_security_groups", GroupIds=[work.physical_id])["SecurityGroups"][0]
    return {"GroupId": work.physical_id, "Id": work.physical_id, "VpcId": group.get("VpcId", "")}


def _authorize(work: Work, direction: str, rules: list[dict[str, Any]]) -> None:
    if rules:
        permissions = [_permission(rule) for rule in rules]
        work.call("ec2", f"authorize_security_group_{direction}", GroupId=work.physical_id, IpPermissions=permissions)


def _revoke(work: Work, direction: str, rules: list[dict[str, Any]]) -> None:
    if rules:
        permissions = [_permission(rule) for rule in rules]
        with ignoring_missing("InvalidPermission.NotFound"):
            work.call("ec2", f"revoke_security_group_{direction}", GroupId=work.physical_id, IpPermissions=permissions)


def _permission(rule: dict[str, Any]) -> dict[str, Any]:
    """A template's rule as one IpPermission. A member that is not known fails by name."""
    permission: dict[str, Any] = {"IpProtocol": str(rule["IpProtocol"])}
    described = {"Description": rule["Description"]} if "Description" in rule else {}
    for name, value in rule.items():
        if name in PEERS:
            group, member = PEERS[name]
            permission[group] = [{member: value, **described}]
        elif name in ("FromPort", "ToPort"):
            permission[name] = int(value)
        elif name not in ("IpProtocol", "Description", "GroupId"):
            raise ResourceFailed(f"property {name} of a security group's rule is not rehearsed", "InvalidRequest")
    return permission


def _rule_kind(name: str, direction: str, peers: str) -> Kind:
    own = words(f"CidrIp CidrIpv6 FromPort GroupId IpProtocol ToPort {peers}")

    def create(work: Work) -> None:
        made = work.call(
            "ec2",
            f"authorize_security_group_{direction}",
            GroupId=work.get("GroupId"),
            IpPermissions=[_permission(work.without("GroupId"))],
        )
        work.made(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def update(work: Work) -> None:
        work.call(
            "ec2",
            f"update_security_group_rule_descriptions_{direction}",
            GroupId=work.get("GroupId"),
            IpPermissions=[_permission(work.without("GroupId"))],
        )

    def delete(work: Work) -> None:
        with ignoring_missing(*GONE):
            work.call(
                "ec2",
                f"revoke_security_group_{direction}",
                GroupId=work.get("GroupId"),
                IpPermissions=[_permission(work.without("GroupId", "Description"))],
            )

    return Kind(
        f"AWS::EC2::{name}", own | {"Description"}, create, delete, update, own,
        lambda work: {"Id": work.physical_id}, recorded_only=always,
    )  # fmt: skip


KINDS = (
    Kind(
        "AWS::EC2::SecurityGroup",
        words("GroupDescription GroupName SecurityGroupEgress SecurityGroupIngress Tags VpcId"),
        create_group, delete_group, update_group, words("GroupDescription GroupName VpcId"), group_attributes,
        name_property="GroupName", recorded_only=always,
    ),
    _rule_kind("SecurityGroupIngress", "ingress", "SourcePrefixListId SourceSecurityGroupId"),
    _rule_kind("SecurityGroupEgress", "egress", "DestinationPrefixListId DestinationSecurityGroupId"),
)  # fmt: skip
