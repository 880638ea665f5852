"""AWS::ECS::Service: made or changed, and then waited for until ECS says how its deployment ended."""

from __future__ import annotations

from typing import Any

from rehearsal.stacks.casing import to_request
from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, ignoring_missing, words
from rehearsal.stacks.kinds.ecs import retag

POLL_S = 0.25
UNFINISHED = {"PENDING", "IN_PROGRESS", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS"}
GONE = ("ServiceNotFoundException", "ServiceNotActiveException", "ClusterNotFoundException")
PROPERTIES = words(
    "AvailabilityZoneRebalancing CapacityProviderStrategy Cluster DeploymentConfiguration DeploymentController "
    "DesiredCount EnableECSManagedTags EnableExecuteCommand HealthCheckGracePeriodSeconds LaunchType LoadBalancers "
    "NetworkConfiguration PlatformVersion PropagateTags SchedulingStrategy ServiceName Tags TaskDefinition"
)
CREATE_ONLY = words("Cluster LaunchType SchedulingStrategy ServiceName")


def create(work: Work) -> None:
    name = work.get("ServiceName") or work.name(255)
    made = work.send("ecs", "create_service", work.without("ServiceName"), serviceName=name)["service"]
    work.made(made["serviceArn"])
    _wait_for(work, _new_deployment(work, known=set()))


def update(work: Work) -> None:
    """Send what changed, and wait only when ECS began a deployment for it.

    In a rollback only what differs from the live service is sent: ECS may have rolled back by itself already.
    """
    known = {deployment["serviceDeploymentArn"] for deployment in _deployments(work)}
    wanted = {name: work.get(name) for name in work.changed if name in work.properties and name != "Tags"}
    wanted |= _emptied(work)
    if work.is_rollback:
        wanted = _unlike_live(work, wanted)
    if wanted:
        work.send("ecs", "update_service", wanted, **_service(work))
        if begun := _new_deployment(work, known):
            _wait_for(work, begun)
        elif work.context.assumed.get("stack_waits_for_running_deployment", True):
            _wait_for_others(work)
    retag(work, work.physical_id)


def _emptied(work: Work) -> dict[str, Any]:
    """What left the template: lists are emptied, an absent DesiredCount is left to autoscaling."""
    gone = {name for name in work.changed if name not in work.properties}
    return {name: [] for name in gone if isinstance(work.previous.get(name), list) and name != "Tags"}


def _unlike_live(work: Work, wanted: dict[str, Any]) -> dict[str, Any]:
    """The properties that the service does not have already."""
    live = work.call("ecs", "describe_services", **_services(work))["services"][0]
    shape = work.input_shape("ecs", "update_service")
    return {
        name: value
        for name, value in wanted.items()
        if not all(_holds(live.get(key), part) for key, part in to_request(shape, {name: value}, name).items())
    }


def _holds(live: Any, wanted: Any) -> bool:
    """Whether `live` is `wanted`, defaults aside that ECS has filled in."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(_holds(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_holds, live, wanted))
    return bool(live == wanted)


def _service(work: Work) -> dict[str, str]:
    return {"cluster": work.get("Cluster", "default"), "service": work.physical_id}


def _services(work: Work) -> dict[str, Any]:
    return {"cluster": work.get("Cluster", "default"), "services": [work.physical_id]}


def _deployments(work: Work) -> list[dict[str, Any]]:
    return list(work.call("ecs", "list_service_deployments", **_service(work))["serviceDeployments"])


def _new_deployment(work: Work, known: set[str]) -> str | None:
    """The newest deployment that was not known before the call, if the call began one."""
    new = [found for found in _deployments(work) if found["serviceDeploymentArn"] not in known]
    return max(new, key=lambda found: found["createdAt"])["serviceDeploymentArn"] if new else None


def _wait_for(work: Work, deployment_arn: str | None) -> None:
    """Until the deployment ended; anything but success is a resource that did not stabilize, with ECS's own reason."""
    while deployment_arn:
        answer = work.call("ecs", "describe_service_deployments", serviceDeploymentArns=[deployment_arn])
        deployment = answer["serviceDeployments"][0]
        status = deployment["status"]
        if status == "SUCCESSFUL":
            return
        if status not in UNFINISHED:
            reason = deployment.get("statusReason") or f"the service deployment ended {status}"
            raise ResourceFailed(f"Error occurred during operation '{reason}'.", "NotStabilized")
        work.pause(POLL_S)


def _wait_for_others(work: Work) -> None:
    """Until no deployment runs; how one ended that this update did not begin is not its failure."""
    while any(deployment["status"] in UNFINISHED for deployment in _deployments(work)):
        work.pause(POLL_S)


def attributes(work: Work) -> dict[str, Any]:
    return {"ServiceArn": work.physical_id, "Name": work.physical_id.rpartition("/")[2]}


def delete(work: Work) -> None:
    """Delete the service with its tasks, and wait until it is inactive."""
    with ignoring_missing(*GONE):
        work.call("ecs", "delete_service", force=True, **_service(work))
        while _status(work) not in ("INACTIVE", "MISSING"):
            work.pause(POLL_S)


def _status(work: Work) -> str:
    found = work.call("ecs", "describe_services", **_services(work))["services"]
    return str(found[0]["status"]) if found else "MISSING"


KINDS = (
    Kind(
        "AWS::ECS::Service", PROPERTIES, create, delete, update, CREATE_ONLY, attributes, "ServiceName",
    ),
)  # fmt: skip
