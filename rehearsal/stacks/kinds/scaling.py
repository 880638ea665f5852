"""AWS::ApplicationAutoScaling: stored by moto; nothing scales by itself in a rehearsal."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, words

# A scalable target's physical id: resource, dimension and namespace between bars.
TARGET = ("ResourceId", "ScalableDimension", "ServiceNamespace")


def put_target(work: Work) -> None:
    work.send("application-autoscaling", "register_scalable_target", work.without())
    work.made("|".join(work.get(name) for name in TARGET))


def update_target(work: Work) -> None:
    work.send("application-autoscaling", "register_scalable_target", work.without())


def delete_target(work: Work) -> None:
    with ignoring_missing("ObjectNotFoundException"):
        work.send("application-autoscaling", "deregister_scalable_target", work.only(*TARGET))


def put_policy(work: Work) -> None:
    name = work.get("PolicyName") or work.name(256)
    own = work.without("PolicyName", "ScalingTargetId")
    made = work.send("application-autoscaling", "put_scaling_policy", own | _target(work), PolicyName=name)
    work.made(made["PolicyARN"])


def update_policy(work: Work) -> None:
    name = _name(work)
    own = work.without("PolicyName", "ScalingTargetId")
    work.send("application-autoscaling", "put_scaling_policy", own | _target(work), PolicyName=name)


def delete_policy(work: Work) -> None:
    with ignoring_missing("ObjectNotFoundException"):
        work.send("application-autoscaling", "delete_scaling_policy", _target(work), PolicyName=_name(work))


def _target(work: Work) -> dict[str, str]:
    """What the policy scales, named directly or by its scalable target's physical id."""
    if "ScalingTargetId" in work.properties:
        return dict(zip(TARGET, work.get("ScalingTargetId").split("|"), strict=True))
    return work.only(*TARGET)


def _name(work: Work) -> str:
    return work.physical_id.rpartition(":policyName/")[2]


def policy_attributes(work: Work) -> dict[str, Any]:
    return {"Arn": work.physical_id, "PolicyName": _name(work)}


KINDS = (
    Kind(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        words("MaxCapacity MinCapacity ResourceId RoleARN ScalableDimension ServiceNamespace SuspendedState"),
        put_target, delete_target, update_target, words("ResourceId ScalableDimension ServiceNamespace"),
        lambda work: {"Id": work.physical_id}, recorded_only=always,
    ),
    Kind(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        words(
            "PolicyName PolicyType ResourceId ScalableDimension ScalingTargetId ServiceNamespace "
            "StepScalingPolicyConfiguration TargetTrackingScalingPolicyConfiguration"
        ),
        put_policy, delete_policy, update_policy,
        words("PolicyName ResourceId ScalableDimension ScalingTargetId ServiceNamespace"),
        policy_attributes, "PolicyName", always,
    ),
)  # fmt: skip
