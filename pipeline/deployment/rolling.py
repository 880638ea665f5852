"""What production reaches while ROLLING replaces tasks one by one: there is no weight that would tell."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.aws.ecs import describe_service, running_tasks
from pipeline.aws.elbv2 import target_health
from pipeline.aws.session import Aws
from pipeline.deployment.place import Place


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether requests reach `some` task of a task definition, and whether they reach it `only`."""

    some: bool
    only: bool


def reach(aws: Aws, place: Place, task_definition_arn: str) -> Reach:
    """By the load balancer: a target gets requests once it is healthy."""
    service = describe_service(aws, place.cluster, place.service)
    healthy = {
        target.target.rsplit(":", 1)[0]
        for group in (service.target_groups if service else ())
        for target in target_health(aws, group)
        if target.state == "healthy"
    }
    tasks = running_tasks(aws, place.cluster, place.service, task_definition_arn)
    ours = {task.address for task in tasks if task.address}
    return Reach(some=bool(healthy & ours), only=bool(healthy) and healthy <= ours)
