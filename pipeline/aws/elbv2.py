"""Elastic Load Balancing v2: the weights of a rule and the health of targets, as they are now."""

from __future__ import annotations

from pipeline.aws.session import Aws
from pipeline.results import TargetHealth


def rule_weights(aws: Aws, rule_arn: str) -> dict[str, int]:
    """Target group ARN -> weight of the rule's forward action; a rule with one plain target group gives it all."""
    rules = aws.call("elbv2", "describe_rules", RuleArns=[rule_arn])["Rules"]
    weights: dict[str, int] = {}
    for action in rules[0]["Actions"] if rules else ():
        if action["Type"] != "forward":
            continue
        groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
        weights |= {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
        if not groups:
            weights[action["TargetGroupArn"]] = 1
    return weights


def target_health(aws: Aws, target_group_arn: str) -> tuple[TargetHealth, ...]:
    """Every registered target with its state and the reason for it, in ELB's words."""
    described = aws.call("elbv2", "describe_target_health", TargetGroupArn=target_group_arn)
    return tuple(
        TargetHealth(
            target=f"{entry['Target']['Id']}:{entry['Target'].get('Port', '')}",
            state=entry["TargetHealth"]["State"],
            reason=entry["TargetHealth"].get("Description") or entry["TargetHealth"].get("Reason") or "",
        )
        for entry in described["TargetHealthDescriptions"]
    )
