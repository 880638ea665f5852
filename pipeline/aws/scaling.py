"""Application Auto Scaling: scale-out held still while a gate's own load is on the new tasks.

https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-suspend-resume-scaling.html
"""

from __future__ import annotations

from typing import Any

from pipeline.aws.session import Aws

DIMENSION = "ecs:service:DesiredCount"


def suspend_request(resource_id: str, suspended: bool) -> dict[str, Any]:
    """Hold back (or allow again) dynamic scale-out; scale-in and schedules stay as they are."""
    return {
        "ServiceNamespace": "ecs",
        "ResourceId": resource_id,
        "ScalableDimension": DIMENSION,
        "SuspendedState": {"DynamicScalingOutSuspended": suspended},
    }


def is_scalable(aws: Aws, resource_id: str) -> bool:
    """Whether the service is registered at all: while its stack is created it is not yet."""
    return bool(_targets(aws, resource_id))


def scale_out_is_suspended(aws: Aws, resource_id: str) -> bool:
    """Whether somebody holds scale-out back now."""
    states = (target.get("SuspendedState") or {} for target in _targets(aws, resource_id))
    return any(bool(state.get("DynamicScalingOutSuspended")) for state in states)


def suspend_scale_out(aws: Aws, resource_id: str, suspended: bool) -> None:
    aws.call("application-autoscaling", "register_scalable_target", **suspend_request(resource_id, suspended))


def _targets(aws: Aws, resource_id: str) -> list[dict[str, Any]]:
    answer = aws.call(
        "application-autoscaling", "describe_scalable_targets", ServiceNamespace="ecs", ResourceIds=[resource_id]
    )
    return list(answer["ScalableTargets"])
