"""Amazon ECS: services, service deployments and revisions, tasks; pure request builders above, senders below.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError

RUNNING_STATUSES = ("PENDING", "IN_PROGRESS", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS")
RELEASE_TAG = "onnxship:release"
GONE_CODES = ("ClusterNotFoundException", "ServiceNotFoundException", "ServiceNotActiveException")
DESCRIBED_AT_ONCE = 20  # deployments, or revisions, that ECS describes in one call
ENDED_STATUSES = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")


@dataclass(frozen=True, slots=True)
class Service:
    """An ECS service as DescribeServices shows it."""

    arn: str
    name: str
    status: str
    task_definition: str
    desired_count: int
    running_count: int
    pending_count: int
    strategy: str
    rollback_alarms: tuple[str, ...]
    hook_stages: tuple[str, ...]
    events: tuple[tuple[datetime, str], ...]
    deployment_configuration: dict[str, Any]
    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """A lifecycle hook of a deployment that has begun."""

    hook_id: str
    target_type: str
    status: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service deployment. `stage` is an open string: AWS adds stages without changing its model.

    `has_replaced`: all tasks of the target revision run, and none of another any more.
    """

    arn: str
    service_arn: str
    status: str
    status_reason: str
    stage: str
    strategy: str
    created_at: datetime | None
    target_revision: str
    source_revisions: tuple[str, ...]
    production_weight: float
    has_replaced: bool
    hooks: tuple[Hook, ...]
    rollback_reason: str
    rollback_revision: str
    triggered_alarms: tuple[str, ...]
    rollback_started_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED_STATUSES


@dataclass(frozen=True, slots=True)
class Revision:
    """A service revision: which task definition and which image digests ran or run."""

    arn: str
    task_definition: str
    image_digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoppedTask:
    """Why a task is not running any more."""

    arn: str
    created_at: datetime | None
    stop_code: str
    reason: str
    exit_codes: tuple[tuple[str, int | None, str], ...]

    @property
    def task_id(self) -> str:
        return self.arn.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that runs, or is about to, and its private address ("" before it has one)."""

    arn: str
    status: str
    address: str

    @property
    def task_id(self) -> str:
        return self.arn.rsplit("/", 1)[-1]


def update_service_request(
    cluster: str, service: Service, task_definition_arn: str, configuration: dict[str, Any]
) -> dict[str, Any]:
    """Start a deployment. The deployment configuration is sent whole: UpdateService replaces it.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html
    """
    return {
        "cluster": cluster,
        "service": service.name,
        "taskDefinition": task_definition_arn,
        "deploymentConfiguration": configuration,
    }


def continue_request(deployment_arn: str, hook_id: str, action: str) -> dict[str, Any]:
    """Answer a PAUSE hook with CONTINUE or ROLLBACK."""
    return {"serviceDeploymentArn": deployment_arn, "hookId": hook_id, "action": action}


def stop_request(deployment_arn: str) -> dict[str, Any]:
    """Stop a deployment and go back to the source revision."""
    return {"serviceDeploymentArn": deployment_arn, "stopType": "ROLLBACK"}


def register_task_definition(aws: Aws, request: dict[str, Any]) -> dict[str, Any]:
    return dict(aws.call("ecs", "register_task_definition", **request)["taskDefinition"])


def describe_task_definition(aws: Aws, name: str) -> dict[str, Any] | None:
    """The task definition (a family means its latest ACTIVE revision) with its tags, or None."""
    try:
        answer = aws.call("ecs", "describe_task_definition", taskDefinition=name, include=["TAGS"])
    except AwsError as error:
        if error.code == "ClientException":  # ECS's answer to a family or revision it does not know
            return None
        raise
    return {**answer["taskDefinition"], "tags": answer.get("tags", [])}


def release_of(aws: Aws, task_definition_arn: str) -> str:
    """The release that registered the task definition, by its tag; "" when nobody said."""
    definition = describe_task_definition(aws, task_definition_arn) if task_definition_arn else None
    tags = {tag["key"]: tag["value"] for tag in definition["tags"]} if definition else {}
    return str(tags.get(RELEASE_TAG, ""))


def describe_service(aws: Aws, cluster: str, service: str) -> Service | None:
    """The service, or None when there is none (any more)."""
    try:
        found = aws.call("ecs", "describe_services", cluster=cluster, services=[service])["services"]
    except AwsError as error:
        if error.code in GONE_CODES:
            return None
        raise
    return _service(found[0]) if found and found[0]["status"] != "INACTIVE" else None


def update_service(
    aws: Aws, cluster: str, service: Service, task_definition_arn: str, configuration: dict[str, Any]
) -> None:
    aws.call("ecs", "update_service", **update_service_request(cluster, service, task_definition_arn, configuration))


def list_deployments(
    aws: Aws, cluster: str, service: str, statuses: tuple[str, ...] = ()
) -> tuple[tuple[str, datetime | None], ...]:
    """ARN and creation time of the service's deployments, newest first; none when there is no such service."""
    request: dict[str, Any] = {"cluster": cluster, "service": service}
    if statuses:
        request["status"] = list(statuses)
    briefs: list[dict[str, Any]] = []
    while True:
        try:
            answer = aws.call("ecs", "list_service_deployments", **request)
        except AwsError as error:
            if error.code in GONE_CODES:
                return ()
            raise
        briefs += answer["serviceDeployments"]
        if not answer.get("nextToken"):
            break
        request["nextToken"] = answer["nextToken"]
    briefs.sort(key=lambda brief: brief["createdAt"].timestamp() if brief.get("createdAt") else 0.0, reverse=True)
    return tuple((brief["serviceDeploymentArn"], brief.get("createdAt")) for brief in briefs)


def describe_deployment(aws: Aws, arn: str) -> Deployment | None:
    """The deployment, or None when ECS does not know it (yet, or any more)."""
    return describe_deployments(aws, [arn]).get(arn)


def describe_deployments(aws: Aws, arns: Sequence[str]) -> dict[str, Deployment]:
    """By ARN, those that ECS knows of `arns`, which are DESCRIBED_AT_ONCE at most."""
    found = aws.call("ecs", "describe_service_deployments", serviceDeploymentArns=list(arns))["serviceDeployments"]
    return {one["serviceDeploymentArn"]: _deployment(one) for one in found}


def describe_revision(aws: Aws, arn: str) -> Revision | None:
    return describe_revisions(aws, [arn]).get(arn)


def describe_revisions(aws: Aws, arns: Sequence[str]) -> dict[str, Revision]:
    """By ARN, those that ECS knows of `arns`, which are DESCRIBED_AT_ONCE at most."""
    found = aws.call("ecs", "describe_service_revisions", serviceRevisionArns=list(arns))["serviceRevisions"]
    return {one["serviceRevisionArn"]: _revision(one) for one in found}


def continue_deployment(aws: Aws, deployment_arn: str, hook_id: str, action: str) -> None:
    aws.call("ecs", "continue_service_deployment", **continue_request(deployment_arn, hook_id, action))


def stop_deployment(aws: Aws, deployment_arn: str) -> None:
    aws.call("ecs", "stop_service_deployment", **stop_request(deployment_arn))


def list_task_arns(aws: Aws, cluster: str, service: str, desired_status: str = "RUNNING") -> list[str]:
    return list(
        aws.pages("ecs", "list_tasks", "taskArns", cluster=cluster, serviceName=service, desiredStatus=desired_status)
    )


def stopped_tasks(aws: Aws, cluster: str, service: str, task_definition_arn: str) -> tuple[StoppedTask, ...]:
    """The stopped tasks of one task definition; ECS forgets them after about an hour."""
    arns = list_task_arns(aws, cluster, service, "STOPPED")
    stopped: list[StoppedTask] = []
    for start in range(0, len(arns), 100):  # DescribeTasks takes 100 at most
        described = aws.call("ecs", "describe_tasks", cluster=cluster, tasks=arns[start : start + 100])["tasks"]
        stopped += [_stopped(task) for task in described if task["taskDefinitionArn"] == task_definition_arn]
    return tuple(stopped)


def running_tasks(aws: Aws, cluster: str, service: str, task_definition_arn: str) -> tuple[RunningTask, ...]:
    """The service's tasks of one task definition that run or are about to."""
    arns = list_task_arns(aws, cluster, service)
    running: list[RunningTask] = []
    for start in range(0, len(arns), 100):
        described = aws.call("ecs", "describe_tasks", cluster=cluster, tasks=arns[start : start + 100])["tasks"]
        running += [_running(task) for task in described if task["taskDefinitionArn"] == task_definition_arn]
    return tuple(running)


def _service(described: dict[str, Any]) -> Service:
    configuration = described.get("deploymentConfiguration") or {}
    alarms = configuration.get("alarms") or {}
    guards = bool(alarms.get("enable")) and bool(alarms.get("rollback"))
    hooks = configuration.get("lifecycleHooks") or []
    return Service(
        arn=described["serviceArn"],
        name=described["serviceName"],
        status=described["status"],
        task_definition=described.get("taskDefinition", ""),
        desired_count=described.get("desiredCount", 0),
        running_count=described.get("runningCount", 0),
        pending_count=described.get("pendingCount", 0),
        strategy=configuration.get("strategy", "ROLLING"),
        rollback_alarms=tuple(alarms.get("alarmNames") or ()) if guards else (),
        hook_stages=tuple(stage for hook in hooks for stage in hook.get("lifecycleStages", ())),
        events=tuple((event["createdAt"], event["message"]) for event in described.get("events") or ()),
        deployment_configuration=configuration,
        target_groups=_target_groups(described.get("loadBalancers") or []),
    )


def _target_groups(balancers: list[dict[str, Any]]) -> tuple[str, ...]:
    """Both groups of each load balancer entry."""
    alternates = [(entry.get("advancedConfiguration") or {}).get("alternateTargetGroupArn") for entry in balancers]
    return tuple(arn for arn in [*(entry.get("targetGroupArn") for entry in balancers), *alternates] if arn)


def _deployment(described: dict[str, Any]) -> Deployment:
    target = described.get("targetServiceRevision") or {}
    sources = [one for one in described.get("sourceServiceRevisions") or () if one["arn"] != target.get("arn")]
    rollback = described.get("rollback") or {}
    return Deployment(
        arn=described["serviceDeploymentArn"],
        service_arn=described.get("serviceArn") or "",
        status=described.get("status", ""),
        status_reason=described.get("statusReason") or "",
        stage=described.get("lifecycleStage") or "",
        strategy=(described.get("deploymentConfiguration") or {}).get("strategy") or "ROLLING",
        created_at=described.get("createdAt"),
        target_revision=target.get("arn") or "",
        source_revisions=tuple(source["arn"] for source in described.get("sourceServiceRevisions") or ()),
        production_weight=float(target.get("requestedProductionTrafficWeight") or 0.0),
        has_replaced=_has_all(target) and not any(_tasks(source) for source in sources),
        hooks=tuple(
            Hook(hook["hookId"], hook.get("targetType", ""), hook.get("status", ""))
            for hook in described.get("lifecycleHookDetails") or ()
        ),
        rollback_reason=rollback.get("reason") or "",
        rollback_revision=rollback.get("serviceRevisionArn") or "",
        triggered_alarms=tuple((described.get("alarms") or {}).get("triggeredAlarmNames") or ()),
        rollback_started_at=rollback.get("startedAt"),
    )


def _revision(described: dict[str, Any]) -> Revision:
    images = described.get("containerImages", [])
    digests = tuple(image.get("imageDigest") or image.get("image", "").partition("@")[2] for image in images)
    named = tuple(digest for digest in digests if digest)
    return Revision(described["serviceRevisionArn"], described.get("taskDefinition", ""), named)


def _has_all(revision: dict[str, Any]) -> bool:
    wanted, running = revision.get("requestedTaskCount") or 0, revision.get("runningTaskCount") or 0
    return bool(wanted) and running >= wanted and not revision.get("pendingTaskCount")


def _tasks(revision: dict[str, Any]) -> int:
    return int(revision.get("runningTaskCount") or 0) + int(revision.get("pendingTaskCount") or 0)


def _stopped(task: dict[str, Any]) -> StoppedTask:
    exits = [(c["name"], c.get("exitCode"), c.get("reason") or "") for c in task.get("containers") or ()]
    return StoppedTask(
        arn=task["taskArn"],
        created_at=task.get("createdAt"),
        stop_code=task.get("stopCode") or "",
        reason=task.get("stoppedReason") or "",
        exit_codes=tuple(exits),
    )


def _running(task: dict[str, Any]) -> RunningTask:
    details = [detail for attachment in task.get("attachments") or () for detail in attachment["details"]]
    addresses = [detail["value"] for detail in details if detail["name"] == "privateIPv4Address"]
    return RunningTask(task["taskArn"], task.get("lastStatus") or "", addresses[0] if addresses else "")
