"""Amazon ECS: task definitions without needless revisions, and one-off tasks, outside any service.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.aws.ecs import describe_task_definition, register_task_definition
from pipeline.aws.session import Aws
from pipeline.errors import AwsError


@dataclass(frozen=True, slots=True)
class OneOffTask:
    """A task as DescribeTasks shows it; `exit_code` is None while its container has none."""

    arn: str
    status: str
    stop_code: str
    stopped_reason: str
    exit_code: int | None
    container_reason: str

    @property
    def task_id(self) -> str:
        return self.arn.rsplit("/", 1)[-1]

    @property
    def has_stopped(self) -> bool:
        return self.status == "STOPPED"

    @property
    def ending(self) -> str:
        """Why it stopped, in ECS's words."""
        code = f"exit code {self.exit_code}" if self.exit_code is not None else ""
        said = (self.stopped_reason or self.stop_code or self.status, self.container_reason, code)
        return ", ".join(dict.fromkeys(part.rstrip(".") for part in said if part))


def run_task_request(
    cluster: str, task_definition: str, *, container: str, environment: dict[str, str], subnets: Sequence[str],
    security_group: str, started_by: str, tags: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """One task on Fargate without a public address. The token makes a repeated request the same task."""
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    network = {"subnets": list(subnets), "securityGroups": [security_group], "assignPublicIp": "DISABLED"}
    return {
        "cluster": cluster,
        "taskDefinition": task_definition,
        "launchType": "FARGATE",
        "count": 1,
        "clientToken": uuid.uuid4().hex,
        "startedBy": started_by,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "overrides": {"containerOverrides": [{"name": container, "environment": variables}]},
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }


def register_once(aws: Aws, request: dict[str, Any], *, earlier_arn: str = "") -> dict[str, Any]:
    """The revision `earlier_arn`, or the family's latest, when it says exactly the same; else a new one.

    ECS has no idempotency token here, and each retry would make another revision.
    """
    for name in filter(None, (earlier_arn, request["family"])):
        found = describe_task_definition(aws, name)
        if found and found["status"] == "ACTIVE" and contains(found, request):
            return found
    return register_task_definition(aws, request)


def contains(found: object, wanted: object) -> bool:
    """Whether `found` says everything that `wanted` says; ECS adds defaults and sorts some lists."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same_length = isinstance(found, list) and len(found) == len(wanted)
        return same_length and all(any(contains(entry, value) for entry in found) for value in wanted)  # type: ignore[attr-defined]
    return found == wanted


def run_task(aws: Aws, request: dict[str, Any]) -> OneOffTask:
    """The task that was started. Raises AwsError with ECS's reason when it could not be placed."""
    answer = aws.call("ecs", "run_task", **request)
    if not answer["tasks"]:
        reasons = "; ".join(f"{f.get('reason', '')} {f.get('detail') or ''}".strip() for f in answer["failures"])
        raise AwsError(
            f"ECS could not place the task {request['taskDefinition']}: {reasons or 'no reason'}.",
            "run the same command again; for lasting failures see the account's Fargate quotas",
        )
    return _one_off(answer["tasks"][0])


def describe_task(aws: Aws, cluster: str, arn: str) -> OneOffTask | None:
    """The task, or None while (or when no longer) ECS knows it."""
    found = aws.call("ecs", "describe_tasks", cluster=cluster, tasks=[arn])["tasks"]
    return _one_off(found[0]) if found else None


def stop_task(aws: Aws, cluster: str, arn: str, reason: str) -> None:
    aws.call("ecs", "stop_task", cluster=cluster, task=arn, reason=reason)


def running_tasks(aws: Aws, cluster: str, family: str, started_by: str) -> list[str]:
    """The tasks of a task definition's family that `started_by` started, and that run or are about to.

    ListTasks takes `startedBy` as its only filter, so it is looked up: what a service started is none of them.
    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html
    """
    arns = list(aws.pages("ecs", "list_tasks", "taskArns", cluster=cluster, family=family, desiredStatus="RUNNING"))
    found: list[str] = []
    for start in range(0, len(arns), 100):  # DescribeTasks takes 100 at most
        described = aws.call("ecs", "describe_tasks", cluster=cluster, tasks=arns[start : start + 100])["tasks"]
        found += [str(task["taskArn"]) for task in described if task.get("startedBy") == started_by]
    return found


def tasks_started_by(aws: Aws, cluster: str, started_by: str) -> list[str]:
    """All tasks of a cluster that `started_by` started, and that run or are about to; none without a cluster."""
    try:  # `startedBy` must be the only filter; without `desiredStatus` it is those that are to run
        return list(aws.pages("ecs", "list_tasks", "taskArns", cluster=cluster, startedBy=started_by))
    except AwsError as error:
        if error.code != "ClusterNotFoundException":
            raise
        return []


def _one_off(task: dict[str, Any]) -> OneOffTask:
    container = (task.get("containers") or [{}])[0]
    return OneOffTask(
        arn=task["taskArn"],
        status=task.get("lastStatus") or "",
        stop_code=task.get("stopCode") or "",
        stopped_reason=task.get("stoppedReason") or "",
        exit_code=container.get("exitCode"),
        container_reason=container.get("reason") or "",
    )
