"""Amazon EC2: the security-group rule that lets a gate reach the test listener, and the load balancer's addresses.

EC2 has one rule for one port and one source, so gates of several services that come from one place share it. Each
signs the rule with a tag of its own, whose value is when that gate has ended for certain; the last one removes it.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError

GATE_TAG = "onnxship:gate:"  # and the service's name
GONE_CODES = ("InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound")
DESCRIPTION = "onnxship gate; its tags say until when"


def open_ingress_request(group_id: str, port: int, source: str, owner: str, expires_at: datetime) -> dict[str, Any]:
    """TCP `port` from `source`, a CIDR range or a security group's id, signed by `owner`."""
    if source.startswith("sg-"):
        sources = {"UserIdGroupPairs": [{"GroupId": source, "Description": DESCRIPTION}]}
    else:
        sources = {"IpRanges": [{"CidrIp": source, "Description": DESCRIPTION}]}
    permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **sources}
    tags = [{"Key": GATE_TAG + owner, "Value": expires_at.isoformat()}]
    return {
        "GroupId": group_id,
        "IpPermissions": [permission],
        "TagSpecifications": [{"ResourceType": "security-group-rule", "Tags": tags}],
    }


def open_ingress(aws: Aws, group_id: str, port: int, source: str, owner: str, expires_at: datetime) -> str | None:
    """The id of the rule, made or shared; None when it was there before and no gate has signed it: it may stay."""
    for _ in range(2):  # once more when the last of the others removes the rule just before it is signed
        rule = _same_rule(aws, group_id, port, source)
        if rule is None:
            try:
                request = open_ingress_request(group_id, port, source, owner, expires_at)
                answer = aws.call("ec2", "authorize_security_group_ingress", **request)
                return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])
            except AwsError as error:
                if error.code != "InvalidPermission.Duplicate":
                    raise
        elif not _signatures(rule):
            return None
        elif _sign(aws, str(rule["SecurityGroupRuleId"]), owner, expires_at):
            return str(rule["SecurityGroupRuleId"])
    raise AwsError(
        f"Port {port} of {group_id} could not be opened for {source}: another gate opens and closes it just now.",
        "run the same command again",
    )


def close_ingress(aws: Aws, group_id: str, rule_id: str, owner: str, now: datetime) -> None:
    """Take the owner's signature off the rule, or remove it when no other gate needs it.

    Between the look and the removal another gate may sign: that one then reaches nothing, and decides nothing.
    """
    for rule in _rules(aws, group_id):
        if rule["SecurityGroupRuleId"] == rule_id:
            _release(aws, group_id, rule, owner, now)


def close_leftovers(aws: Aws, group_id: str, owner: str, now: datetime) -> None:
    """Close what killed gates never closed: the owner's own, of which one runs at a time, and expired ones."""
    for rule in _rules(aws, group_id):
        signatures = _signatures(rule)
        if owner in signatures or any(expires_at <= now for expires_at in signatures.values()):
            _release(aws, group_id, rule, owner, now)


def close_all(aws: Aws, group_id: str) -> None:
    """Remove every rule that a gate signed, also another service's: for when the group itself goes."""
    for rule in _rules(aws, group_id):
        if _signatures(rule):
            _revoke(aws, group_id, str(rule["SecurityGroupRuleId"]))


def load_balancer_addresses(aws: Aws, full_name: str) -> list[str]:
    """The private addresses of a load balancer's nodes; `full_name` is `app/<name>/<id>`.

    https://repost.aws/knowledge-center/elb-find-load-balancer-IP
    """
    named = [{"Name": "description", "Values": [f"ELB {full_name}"]}]
    found = aws.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=named)
    return sorted({str(interface["PrivateIpAddress"]) for interface in found})


def _rules(aws: Aws, group_id: str) -> list[dict[str, Any]]:
    filters = [{"Name": "group-id", "Values": [group_id]}]
    rules = aws.pages("ec2", "describe_security_group_rules", "SecurityGroupRules", Filters=filters)
    return [rule for rule in rules if not rule.get("IsEgress")]


def _same_rule(aws: Aws, group_id: str, port: int, source: str) -> dict[str, Any] | None:
    wanted = (port, port, source)
    return next((rule for rule in _rules(aws, group_id) if _reach(rule) == wanted), None)


def _reach(rule: dict[str, Any]) -> tuple[Any, Any, Any]:
    source = rule.get("CidrIpv4") or (rule.get("ReferencedGroupInfo") or {}).get("GroupId")
    return rule.get("FromPort"), rule.get("ToPort"), source


def _signatures(rule: dict[str, Any]) -> dict[str, datetime]:
    """Which service's gate needs the rule, and until when."""
    tags = {tag["Key"]: tag["Value"] for tag in rule.get("Tags") or ()}
    named = {key.removeprefix(GATE_TAG): value for key, value in tags.items() if key.startswith(GATE_TAG)}
    return {owner: datetime.fromisoformat(value) for owner, value in named.items()}


def _sign(aws: Aws, rule_id: str, owner: str, expires_at: datetime) -> bool:
    """Whether the rule was still there to be signed."""
    try:
        tag = {"Key": GATE_TAG + owner, "Value": expires_at.isoformat()}
        aws.call("ec2", "create_tags", Resources=[rule_id], Tags=[tag])
    except AwsError as error:
        if error.code not in GONE_CODES:
            raise
        return False
    return True


def _release(aws: Aws, group_id: str, rule: dict[str, Any], owner: str, now: datetime) -> None:
    rule_id, signatures = str(rule["SecurityGroupRuleId"]), _signatures(rule)
    needed = [name for name, expires_at in signatures.items() if name != owner and expires_at > now]
    if not needed:
        _revoke(aws, group_id, rule_id)
        return
    try:
        gone = [{"Key": GATE_TAG + name} for name in signatures if name not in needed]
        aws.call("ec2", "delete_tags", Resources=[rule_id], Tags=gone)
    except AwsError as error:
        if error.code not in GONE_CODES:  # somebody else has closed it
            raise


def _revoke(aws: Aws, group_id: str, rule_id: str) -> None:
    try:
        aws.call("ec2", "revoke_security_group_ingress", GroupId=group_id, SecurityGroupRuleIds=[rule_id])
    except AwsError as error:
        if error.code not in GONE_CODES:  # somebody else has closed it
            raise
