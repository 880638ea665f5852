"""The small ECS made by hand, for a service that is deployed by ROLLING."""

# ruff: noqa: N803 - arguments are AWS's own names

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import AwsError
from tests.pipeline.ecs_world import (
    NEW,
    OLD,
    Creating,
    Moving,
    World,
)

ROLLING_STAGES = ("PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "BAKE_TIME")
ADDRESSES = {"old": "10.0.0.1", "new": "10.0.0.2"}


@dataclass
class Rolling(World):
    """A service that is deployed by ROLLING: new tasks answer from SCALE_UP on, and alone once it is over.

    The bake lasts until the gates have asked: `ends_when_judged` ends the deployment at that moment.
    """

    ends_when_judged: bool = False
    going_back_fails: bool = False
    healthy_in_scale_up: tuple[str, ...] = ("old",)
    healthy_when_judged: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_hook = False
        self.configuration = {"strategy": "ROLLING"}

    def _forward(self, d: Moving) -> None:
        d.status, d.at = "IN_PROGRESS", d.at + 1
        if self.going_back_fails and d.task_definition == OLD:
            d.status = "ROLLBACK_FAILED"
        elif d.at == len(ROLLING_STAGES):
            d.status, d.at = "SUCCESSFUL", d.at - 1

    def _move(self, d: Moving) -> None:
        if self._stage(d) == self.stays_at and d.status == "IN_PROGRESS":
            return
        super()._move(d)

    def _stage(self, d: Moving) -> str:
        return ROLLING_STAGES[min(d.at, len(ROLLING_STAGES) - 1)] if d.at >= 0 else ""

    def _has_replaced(self, d: Moving) -> bool:
        return self._stage(d) in ("POST_SCALE_UP", "BAKE_TIME")

    def _described(self, d: Moving) -> dict[str, Any]:
        described = super()._described(d)
        described["lifecycleStage"] = self._stage(d)
        ours, others = (2, 0) if self._has_replaced(d) else (1, 2)
        described["targetServiceRevision"] = {
            "arn": f"rev/{d.task_definition}", "requestedTaskCount": 2, "runningTaskCount": ours, "pendingTaskCount": 0,
        }  # fmt: skip
        for source in described["sourceServiceRevisions"]:
            source["runningTaskCount"] = others
        if self.ends_when_judged and d.task_definition == NEW and self._has_replaced(d) and d.status == "IN_PROGRESS":
            d.status = "SUCCESSFUL"  # between this look and the gates' verdict
        return described

    def _describe_services(self, **_: Any) -> dict[str, Any]:
        answer = super()._describe_services()
        answer["services"][0]["loadBalancers"] = [
            {"targetGroupArn": "blue", "advancedConfiguration": {"alternateTargetGroupArn": "green"}}
        ]
        return answer

    def _describe_target_health(self, TargetGroupArn: str) -> dict[str, Any]:
        moving = self.deployments[-1]
        before = {"SCALE_UP": self.healthy_in_scale_up, "PRE_SCALE_UP": ("old",), "": ("old",)}
        names = set(before.get(self._stage(moving), ("new",))) if TargetGroupArn == "blue" else set()
        self.healthy_when_judged = names or self.healthy_when_judged
        described = [
            {"Target": {"Id": ADDRESSES[name], "Port": 8080}, "TargetHealth": {"State": "healthy"}} for name in names
        ]
        return {"TargetHealthDescriptions": described}

    def _list_tasks(self, desiredStatus: str = "STOPPED", family: str = "", **_: Any) -> dict[str, Any]:
        if family or desiredStatus == "STOPPED":
            return super()._list_tasks(family, desiredStatus)
        return {"taskArns": ["arn:task/new"]}

    def _describe_tasks(self, tasks: list[str], **_: Any) -> dict[str, Any]:
        if tasks != ["arn:task/new"]:
            return super()._describe_tasks(tasks)
        details = [{"name": "privateIPv4Address", "value": ADDRESSES["new"]}]
        definition = self.deployments[-1].task_definition
        return {
            "tasks": [
                {"taskArn": tasks[0], "taskDefinitionArn": definition, "attachments": [{"details": details}]}
            ]
        }  # fmt: skip

    def _stop_service_deployment(self, serviceDeploymentArn: str, stopType: str) -> dict[str, Any]:
        d = self._find(serviceDeploymentArn)
        if d is not None and d.status == "SUCCESSFUL":
            raise AwsError("it has ended", "", code="ConflictException")
        return super()._stop_service_deployment(serviceDeploymentArn, stopType)


@dataclass
class CreatingRolling(Creating, Rolling):
    """A service that is created with ROLLING."""

    def __post_init__(self) -> None:
        self.has_hook, self.configuration = False, {"strategy": "ROLLING"}
