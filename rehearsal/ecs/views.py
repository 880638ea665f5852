"""What the API tells of services, revisions, deployments and tasks, in the shapes of botocore's model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rehearsal.ecs.state import Container, Deployment, Hook, Json, Revision, Service, Task

SPEC_IN_SERVICE = (
    "loadBalancers",
    "serviceRegistries",
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "deploymentConfiguration",
    "networkConfiguration",
    "healthCheckGracePeriodSeconds",
    "schedulingStrategy",
    "deploymentController",
    "enableECSManagedTags",
    "propagateTags",
    "enableExecuteCommand",
    "availabilityZoneRebalancing",
    "placementConstraints",
    "placementStrategy",
)
TASK_TIMES = (
    "pullStartedAt",
    "pullStoppedAt",
    "startedAt",
    "stoppingAt",
    "stoppedAt",
    "executionStoppedAt",
)


def moment(seconds: float | None) -> datetime | None:
    """A time as the serializer wants it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _without_none(view: Json) -> Json:
    return {key: value for key, value in view.items() if value is not None}


def service_view(service: Service, with_tags: bool) -> Json:
    """A Service of DescribeServices."""
    ongoing, tasks = service.ongoing, [task for task in service.tasks if task.live]
    running = [task for task in tasks if task.last_status == "RUNNING"]
    view = {key: service.spec[key] for key in SPEC_IN_SERVICE if key in service.spec}
    view |= {
        "serviceArn": service.arn,
        "serviceName": service.name,
        "clusterArn": service.cluster_arn,
        "status": service.status,
        "desiredCount": service.desired_count,
        "runningCount": len(running),
        "pendingCount": len(tasks) - len(running),
        "taskDefinition": service.spec["taskDefinition"],
        "deployments": [_rollout_view(service, revision) for revision in _newest_first(service)],
        "events": [{**event, "createdAt": moment(event["createdAt"])} for event in service.events],
        "createdAt": moment(service.created_at),
        "currentServiceDeployment": ongoing.arn if ongoing else None,
        "currentServiceRevisions": [_counts(service, revision) for revision in service.active()],
        "tags": service.spec.get("tags") or [] if with_tags else None,
    }
    return _without_none(view)


def _newest_first(service: Service) -> list[Revision]:
    if service.status == "INACTIVE":
        return []
    return sorted(service.active(), key=lambda one: (one is service.primary, one.created_at), reverse=True)


def _rollout_view(service: Service, revision: Revision) -> Json:
    """A Deployment of DescribeServices: one for each revision with tasks, the primary first."""
    counts = _counts(service, revision)
    state = _rollout_state(service, revision)
    return _without_none(
        {
            "id": revision.deployment_id,
            "status": "PRIMARY" if revision is service.primary else "ACTIVE",
            "taskDefinition": revision.task_definition["taskDefinitionArn"],
            "desiredCount": counts["requestedTaskCount"],
            "runningCount": counts["runningTaskCount"],
            "pendingCount": counts["pendingTaskCount"],
            "failedTasks": revision.failed_in_a_row,
            "createdAt": moment(revision.created_at),
            "updatedAt": moment(revision.created_at),
            "launchType": revision.spec.get("launchType"),
            "capacityProviderStrategy": revision.spec.get("capacityProviderStrategy"),
            "platformVersion": revision.spec.get("platformVersion"),
            "platformFamily": "Linux",
            "networkConfiguration": revision.spec.get("networkConfiguration"),
            "rolloutState": state,
            "rolloutStateReason": _state_reason(service, revision, state),
        }
    )


def _rollout_state(service: Service, revision: Revision) -> str:
    if revision.failed:
        return "FAILED"
    return "IN_PROGRESS" if service.deployment_to(revision) or not revision.completed else "COMPLETED"


def _state_reason(service: Service, revision: Revision, state: str) -> str:
    if state == "FAILED":
        deployment = next(one for one in service.deployments if one.target is revision)
        return deployment.rollback_reason or deployment.status_reason or "ECS deployment failed."
    words = {"IN_PROGRESS": "in progress", "COMPLETED": "completed"}
    return f"ECS deployment {revision.deployment_id} {words[state]}."


def _counts(service: Service, revision: Revision) -> Json:
    live = service.tasks_of(revision)
    running = sum(task.last_status == "RUNNING" for task in live)
    return {
        "arn": revision.arn,
        "requestedTaskCount": revision.wanted(service.desired_count),
        "runningTaskCount": running,
        "pendingTaskCount": len(live) - running,
    }


def _weighed(service: Service, revision: Revision) -> Json:
    return {
        **_counts(service, revision),
        "requestedTestTrafficWeight": revision.test_weight,
        "requestedProductionTrafficWeight": revision.production_weight,
    }


def deployment_brief(service: Service, deployment: Deployment) -> Json:
    """A ServiceDeploymentBrief of ListServiceDeployments."""
    return _without_none(
        {
            "serviceDeploymentArn": deployment.arn,
            "serviceArn": service.arn,
            "clusterArn": service.cluster_arn,
            "createdAt": moment(deployment.created_at),
            "startedAt": moment(deployment.started_at),
            "finishedAt": moment(deployment.finished_at),
            "targetServiceRevisionArn": deployment.target.arn,
            "status": deployment.status,
            "statusReason": deployment.status_reason,
        }
    )


def deployment_view(service: Service, deployment: Deployment) -> Json:
    """A ServiceDeployment of DescribeServiceDeployments."""
    brief = deployment_brief(service, deployment)
    brief.pop("targetServiceRevisionArn")
    sources = [deployment.source] if deployment.source else []
    return brief | _without_none(
        {
            "stoppedAt": moment(deployment.stopped_at),
            "updatedAt": moment(deployment.updated_at or deployment.created_at),
            "sourceServiceRevisions": [_weighed(service, one) for one in sources],
            "targetServiceRevision": _weighed(service, deployment.target),
            "lifecycleStage": deployment.stage,
            "lifecycleHookDetails": [_hook_view(hook) for hook in deployment.hooks],
            "deploymentConfiguration": deployment.config,
            "rollback": _rollback_view(deployment),
            "deploymentCircuitBreaker": {
                "status": deployment.breaker_status,
                "failureCount": deployment.failures,
                "threshold": deployment.threshold,
            },
            "alarms": {
                "status": deployment.alarms_status,
                "alarmNames": (deployment.config.get("alarms") or {}).get("alarmNames") or [],
                "triggeredAlarmNames": deployment.triggered_alarms,
            },
        }
    )


def _hook_view(hook: Hook) -> Json:
    return {
        "hookId": hook.id,
        "targetType": "PAUSE",
        "status": hook.status,
        "expiresAt": moment(hook.expires_at),
        "timeoutAction": hook.timeout_action,
    }


def _rollback_view(deployment: Deployment) -> Json | None:
    if deployment.rollback_started_at is None:
        return None
    return _without_none(
        {
            "reason": deployment.rollback_reason,
            "startedAt": moment(deployment.rollback_started_at),
            "serviceRevisionArn": deployment.source.arn if deployment.source else None,
        }
    )


def revision_view(service: Service, revision: Revision) -> Json:
    """A ServiceRevision of DescribeServiceRevisions."""
    spec = revision.spec
    keys = ("launchType", "capacityProviderStrategy", "platformVersion", "loadBalancers", "networkConfiguration")
    resolved = [
        _without_none({"targetGroupArn": slot.target_group, "productionListenerRule": slot.production_rule})
        for slot in revision.slots
    ]
    return {
        **{key: spec[key] for key in keys if spec.get(key) is not None},
        "serviceRevisionArn": revision.arn,
        "serviceArn": service.arn,
        "clusterArn": service.cluster_arn,
        "taskDefinition": revision.task_definition["taskDefinitionArn"],
        "platformFamily": "Linux",
        "containerImages": [
            _without_none(
                {"containerName": one["name"], "image": one["image"], "imageDigest": revision.digests.get(one["name"])}
            )
            for one in revision.task_definition["containerDefinitions"]
        ],
        "createdAt": moment(revision.created_at),
        "resolvedConfiguration": {"loadBalancers": resolved},
    }


def task_view(task: Task, with_tags: bool) -> Json:
    """A Task of DescribeTasks."""
    definition = task.task_definition
    view: dict[str, Any] = {
        "taskArn": task.arn,
        "clusterArn": task.cluster_arn,
        "taskDefinitionArn": definition["taskDefinitionArn"],
        "containers": [_container_view(task, container) for container in task.containers],
        "attachments": [_attachment(task)] if task.ip else [],
        "availabilityZone": task.zone,
        "cpu": definition.get("cpu"),
        "memory": definition.get("memory"),
        "createdAt": moment(task.created_at),
        "desiredStatus": task.desired_status,
        "lastStatus": task.last_status,
        "group": task.group,
        "startedBy": task.started_by,
        "launchType": task.launch_type,
        "platformFamily": "Linux",
        "platformVersion": "1.4.0",
        "connectivity": "CONNECTED" if "pullStartedAt" in task.times else None,
        "connectivityAt": moment(task.times.get("pullStartedAt")),
        "healthStatus": _health(task),
        "overrides": task.overrides,
        "stopCode": task.stop_code,
        "stoppedReason": task.stopped_reason,
        "tags": task.tags if with_tags else None,
        "version": 1,
    }
    return _without_none(view | {key: moment(task.times.get(key)) for key in TASK_TIMES})


def _health(task: Task) -> str:
    """UNHEALTHY and UNKNOWN of an essential container are the task's (API_Task, healthStatus)."""
    essential = {one.health for one in task.containers if one.essential}
    return next((health for health in ("UNHEALTHY", "UNKNOWN") if health in essential), "HEALTHY")


def _container_view(task: Task, container: Container) -> Json:
    interfaces = (
        [{"attachmentId": task.interface.replace("eni-", ""), "privateIpv4Address": task.ip}] if task.ip else []
    )
    return _without_none(
        {
            "containerArn": container.arn,
            "taskArn": task.arn,
            "name": container.name,
            "image": container.definition["image"],
            "imageDigest": container.digest,
            "runtimeId": f"{task.id}-{container.arn.rsplit('-', 1)[1]}",
            "lastStatus": container.last_status,
            "exitCode": container.exit_code,
            "reason": container.reason,
            "networkBindings": [],
            "networkInterfaces": interfaces,
            "healthStatus": container.health,
            "cpu": str(container.definition.get("cpu", 0)),
        }
    )


def _attachment(task: Task) -> Json:
    details = {
        "subnetId": task.subnet,
        "networkInterfaceId": task.interface,
        "privateDnsName": f"ip-{str(task.ip).replace('.', '-')}.ec2.internal",
        "privateIPv4Address": task.ip,
    }
    return {
        "id": task.interface.replace("eni-", ""),
        "type": "ElasticNetworkInterface",
        "status": "DELETED" if task.last_status == "STOPPED" else "ATTACHED",
        "details": [{"name": name, "value": str(value)} for name, value in details.items()],
    }
