"""Actions on tasks, carried out inside the loop."""

from __future__ import annotations

import json

from botocore.exceptions import ClientError

from rehearsal.ecs.refusals import invalid
from rehearsal.ecs.scheduler import Scheduler
from rehearsal.ecs.service_api import describe_definition
from rehearsal.ecs.state import Json, Task
from rehearsal.ecs.views import task_view

MOST_TASKS = 10
MOST_OVERRIDES_CHARACTERS = 8192  # API_TaskOverride


class TaskApi:
    """ListTasks, DescribeTasks, StopTask, RunTask."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def list(self, params: Json, cluster_arn: str) -> list[str]:
        """The ARNs of ListTasks, unpaged. Without desiredStatus only running ones (API_ListTasks)."""
        desired = params.get("desiredStatus") or "RUNNING"
        tests = {
            "serviceName": lambda task, value: task.group == f"service:{value.rsplit('/', 1)[-1]}",
            "family": lambda task, value: task.task_definition["family"] == value,
            "startedBy": lambda task, value: task.started_by == value,
            "launchType": lambda task, value: task.launch_type == value,
        }
        asked = {key: params[key] for key in tests if params.get(key)}
        return [
            task.arn
            for task in self._scheduler.tasks
            if task.cluster_arn == cluster_arn
            and task.desired_status == desired
            and all(tests[key](task, value) for key, value in asked.items())
        ]

    async def describe(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""
        with_tags = "TAGS" in (params.get("include") or [])
        found, failures = [], []
        for name in params.get("tasks") or []:
            task = self._find(name, cluster_arn)
            if task:
                found.append(task_view(task, with_tags))
            else:
                failures.append({"arn": _task_arn(name, cluster_arn), "reason": "MISSING"})
        return {"tasks": found, "failures": failures}

    async def stop(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html"""
        task = self._find(params["task"], cluster_arn)
        if task is None:
            raise invalid("The referenced task was not found.")
        task.ask_to_stop("UserInitiated", params.get("reason") or "Task stopped by user")
        return {"task": task_view(task, with_tags=True)}

    async def run(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html"""
        count, token = params.get("count") or 1, params.get("clientToken")
        if known := [task for task in self._scheduler.tasks if token and task.client_token == token]:
            return _started(known)
        definition = await describe_definition(self._scheduler, params["taskDefinition"])
        _check_run(params, definition, count)
        await self._check_network(params)
        group = params.get("group") or f"family:{definition['family']}"
        tasks = [await self._scheduler.new_task(cluster_arn, definition, params, group) for _ in range(count)]
        for task in tasks:
            task.started_by, task.overrides = params.get("startedBy"), params.get("overrides") or {}
            task.tags, task.client_token = params.get("tags") or [], token
            self._scheduler.spawn(self._scheduler.runner.live(task))
        return _started(tasks)

    async def _check_network(self, params: Json) -> None:
        """Subnets and security groups that are not there are refused at once."""
        network = (params.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        looks = (
            ("describe_subnets", "SubnetIds", network.get("subnets") or []),
            ("describe_security_groups", "GroupIds", network.get("securityGroups") or []),
        )
        for operation, argument, ids in looks:
            try:
                if ids:
                    await self._scheduler.context.call("ec2", operation, **{argument: ids})
            except ClientError as error:
                raise invalid(error.response["Error"]["Message"]) from error

    def _find(self, name: str, cluster_arn: str) -> Task | None:
        arn = _task_arn(name, cluster_arn)
        return next((task for task in self._scheduler.tasks if task.arn == arn), None)


def _task_arn(name: str, cluster_arn: str) -> str:
    return name if name.startswith("arn:") else f"{cluster_arn.replace(':cluster/', ':task/')}/{name}"


def _started(tasks: list[Task]) -> Json:
    return {"tasks": [task_view(task, with_tags=True) for task in tasks], "failures": []}


def _check_run(params: Json, definition: Json, count: int) -> None:
    if count > MOST_TASKS:
        raise invalid(f"count must be at most {MOST_TASKS}.")
    if definition.get("networkMode") == "awsvpc" and not params.get("networkConfiguration"):
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    overrides = params.get("overrides") or {}
    if len(json.dumps(overrides, separators=(",", ":"))) > MOST_OVERRIDES_CHARACTERS:
        raise invalid(f"Container Overrides length must be at most {MOST_OVERRIDES_CHARACTERS}")
    names = {container["name"] for container in definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides") or []:
        if override.get("name") not in names:
            raise invalid(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
