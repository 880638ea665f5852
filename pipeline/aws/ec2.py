"""Amazon EC2: the one security-group rule that lets the gate's caller reach the test listener, tagged with its end.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError

EXPIRES_TAG = "onnxship:expires-at"
OWNER_TAG = "onnxship:service"


def open_ingress_request(group_id: str, port: int, cidr: str, owner: str, expires_at: datetime) -> dict[str, Any]:
    """TCP `port` from `cidr`, tagged so that a later run knows whose rule it is and when it may go."""
    description = f"onnxship gate until {expires_at:%Y-%m-%dT%H.%M.%SZ}"
    permission = {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": cidr, "Description": description}],
    }
    tags = [{"Key": EXPIRES_TAG, "Value": expires_at.isoformat()}, {"Key": OWNER_TAG, "Value": owner}]
    return {
        "GroupId": group_id,
        "IpPermissions": [permission],
        "TagSpecifications": [{"ResourceType": "security-group-rule", "Tags": tags}],
    }


def open_ingress(aws: Aws, group_id: str, port: int, cidr: str, owner: str, expires_at: datetime) -> str | None:
    """Add the rule; its id, or None when the same opening exists already and is somebody else's to close."""
    try:
        answer = aws.call(
            "ec2", "authorize_security_group_ingress", **open_ingress_request(group_id, port, cidr, owner, expires_at)
        )
    except AwsError as error:
        if error.code == "InvalidPermission.Duplicate":
            return None
        raise
    return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])


def close_ingress(aws: Aws, group_id: str, rule_ids: list[str]) -> None:
    """Remove rules; those that are gone already are no error."""
    try:
        aws.call("ec2", "revoke_security_group_ingress", GroupId=group_id, SecurityGroupRuleIds=rule_ids)
    except AwsError as error:
        if error.code not in ("InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound"):
            raise


def leftover_openings(aws: Aws, group_id: str, owner: str, now: datetime) -> list[str]:
    """Rules that a killed gate never closed: `owner`'s own, of which one gate runs at a time, and all expired ones."""
    filters = [{"Name": "group-id", "Values": [group_id]}]
    rules = aws.pages("ec2", "describe_security_group_rules", "SecurityGroupRules", Filters=filters)
    return [str(rule["SecurityGroupRuleId"]) for rule in rules if _is_leftover(rule, owner, now)]


def _is_leftover(rule: dict[str, Any], owner: str, now: datetime) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in rule.get("Tags") or ()}
    if EXPIRES_TAG not in tags:
        return False
    return tags.get(OWNER_TAG) == owner or datetime.fromisoformat(tags[EXPIRES_TAG]) <= now
