"""Rules on ECS: how services are deployed, and what a container may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.template_checks.reading import Faults, Properties, Template, is_true, items
from pipeline.template_checks.variants import variants

SERVICE = "AWS::ECS::Service"
SHIFTING = ("BLUE_GREEN", "CANARY", "LINEAR")
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html
NEVER_PAUSED = ("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT")
ROOT_USERS = ("", "root", "0")


def _deployments(template: Template) -> Iterator[tuple[str, Properties]]:
    """One for each strategy that a service can be given."""
    for logical_id, service in template.of_type(SERVICE):
        found = service.get("DeploymentConfiguration") or {}
        for strategy, deployment in variants(template, found, found.get("Strategy") or "ROLLING"):
            yield logical_id, {**deployment, "Strategy": strategy}


def _strategy(deployment: Properties) -> str:
    return str(deployment["Strategy"])


def ecs_rolls_back_by_alarms(template: Template) -> Faults:
    """After the gate's CONTINUE safety rests on alarms: a service without them is refused."""
    for logical_id, deployment in _deployments(template):
        alarms = deployment.get("Alarms") or {}
        if not (items(alarms.get("AlarmNames")) and is_true(alarms.get("Enable")) and is_true(alarms.get("Rollback"))):
            yield (
                logical_id,
                "rolls nothing back by alarms; set DeploymentConfiguration.Alarms with Enable and Rollback",
            )


def ecs_waits_for_the_gate(template: Template) -> Faults:
    """A deployment that shifts traffic pauses after test traffic, and rolls back when no answer comes."""
    for logical_id, deployment in _deployments(template):
        waiting = [
            hook.get("TimeoutConfiguration") or {}
            for hook in items(deployment.get("LifecycleHooks"))
            if hook.get("TargetType") == "PAUSE" and "POST_TEST_TRAFFIC_SHIFT" in items(hook.get("LifecycleStages"))
        ]
        if _strategy(deployment) not in SHIFTING:
            continue
        if not waiting:
            yield logical_id, "never waits for the gate; add a PAUSE hook at POST_TEST_TRAFFIC_SHIFT"
        for timeout in waiting:
            if timeout.get("Action") != "ROLLBACK" or "TimeoutInMinutes" not in timeout:
                yield (
                    logical_id,
                    "waits a day for the gate or goes on without it; set TimeoutInMinutes, Action: ROLLBACK",
                )


def ecs_pause_stage(template: Template) -> Faults:
    """ECS takes no PAUSE while it shifts traffic."""
    for logical_id, deployment in _deployments(template):
        for hook in items(deployment.get("LifecycleHooks")):
            for stage in set(items(hook.get("LifecycleStages"))) & set(NEVER_PAUSED):
                if hook.get("TargetType") == "PAUSE":
                    yield logical_id, f"pauses at {stage}, which ECS refuses; pause at POST_TEST_TRAFFIC_SHIFT"


def ecs_strategy_settings(template: Template) -> Faults:
    """CANARY and LINEAR have their settings, others do not; a shift has a bake time and no circuit breaker."""
    for logical_id, deployment in _deployments(template):
        strategy = _strategy(deployment)
        for owner, key in (("CANARY", "CanaryConfiguration"), ("LINEAR", "LinearConfiguration")):
            if (strategy == owner) != (key in deployment):
                yield logical_id, f"has strategy {strategy}; {key} belongs to {owner}, and to it always"
        if strategy in SHIFTING and "BakeTimeInMinutes" not in deployment:
            yield logical_id, "has no bake time; set BakeTimeInMinutes"
        breaker = deployment.get("DeploymentCircuitBreaker") or {}
        if strategy in SHIFTING and breaker and str(breaker.get("Enable")).lower() != "false":
            yield logical_id, f"has a circuit breaker, which is for ROLLING; {strategy} rests on hook and alarms"
        if strategy == "ROLLING" and not (is_true(breaker.get("Enable")) and is_true(breaker.get("Rollback"))):
            yield logical_id, "has strategy ROLLING without a circuit breaker that rolls back"


def ecs_shifts_between_two_groups(template: Template) -> Faults:
    """A shift needs a second target group, both rules and a role."""
    shifting = {logical_id for logical_id, deployment in _deployments(template) if _strategy(deployment) in SHIFTING}
    for logical_id, service in template.of_type(SERVICE):
        if logical_id not in shifting:
            continue
        for entry in items(service.get("LoadBalancers")) or [{}]:
            advanced = entry.get("AdvancedConfiguration") or {}
            for key in ("AlternateTargetGroupArn", "ProductionListenerRule", "RoleArn"):
                if key not in advanced:
                    yield logical_id, f"cannot shift traffic without LoadBalancers.AdvancedConfiguration.{key}"


def ecs_count_belongs_to_scaling(template: Template) -> Faults:
    """A fixed DesiredCount undoes what scaling did, at every stack update."""
    for logical_id, service in template.of_type(SERVICE):
        count = service.get("DesiredCount")
        if count is not None and "Fn::If" not in (count if isinstance(count, dict) else {}):
            yield logical_id, "fixes DesiredCount at every update; leave it out after creation (Fn::If, AWS::NoValue)"


def ecs_private_tasks(template: Template) -> Faults:
    """Tasks have no public address (Security Hub ECS.2)."""
    for logical_id, service in template.of_type(SERVICE):
        network = (service.get("NetworkConfiguration") or {}).get("AwsvpcConfiguration") or {}
        if network.get("AssignPublicIp") != "DISABLED":
            yield logical_id, "may give tasks public addresses; set AssignPublicIp: DISABLED"


def ecs_latest_platform(template: Template) -> Faults:
    """Fargate's platform is the latest (Security Hub ECS.10), and has the launch types that there are."""
    for logical_id, service in template.of_type(SERVICE):
        if service.get("PlatformVersion", "LATEST") != "LATEST":
            yield logical_id, "stays on an old platform; set PlatformVersion: LATEST"
        if "LaunchType" in service and "CapacityProviderStrategy" in service:
            yield logical_id, "has LaunchType beside CapacityProviderStrategy, which ECS refuses; keep one"
        if service.get("LaunchType") == "MANAGED_INSTANCES":
            yield logical_id, "asks for Managed Instances by LaunchType; use CapacityProviderStrategy"


def ecs_insights(template: Template) -> Faults:
    """The cluster counts its tasks (Security Hub ECS.12); the cost alarm reads that."""
    for logical_id, cluster in template.of_type("AWS::ECS::Cluster"):
        settings = {item.get("Name"): item.get("Value") for item in items(cluster.get("ClusterSettings"))}
        if settings.get("containerInsights") not in ("enabled", "enhanced"):
            yield logical_id, "measures nothing; set ClusterSettings containerInsights: enabled"


def _containers(template: Template) -> Iterator[tuple[str, Properties, dict[str, Any]]]:
    for logical_id, task in template.of_type("AWS::ECS::TaskDefinition"):
        for container in items(task.get("ContainerDefinitions")):
            yield logical_id, task, container


def fargate_has_no_gpu(template: Template) -> Faults:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html"""
    for logical_id, task, container in _containers(template):
        needs = {need.get("Type") for need in items(container.get("ResourceRequirements"))}
        if "FARGATE" in items(task.get("RequiresCompatibilities")) and "GPU" in needs:
            yield logical_id, "asks Fargate for a GPU, and Fargate has none; use EC2 or Managed Instances"


def containers_are_confined(template: Template) -> Faults:
    """Not privileged, not root, read-only root (Security Hub ECS.4, ECS.5, ECS.20)."""
    for logical_id, _, container in _containers(template):
        if is_true(container.get("Privileged")):
            yield logical_id, "has a privileged container"
        if not is_true(container.get("ReadonlyRootFilesystem")):
            yield logical_id, "has a container with a writable root; set ReadonlyRootFilesystem: true"
        if str(container.get("User", "")).split(":")[0] in ROOT_USERS:
            yield logical_id, "has a container that runs as root; set User"
        if not container.get("LogConfiguration"):
            yield logical_id, "has a container without logs; set LogConfiguration"


def tasks_are_isolated(template: Template) -> Faults:
    """Own network, own processes (Security Hub ECS.3, ECS.17)."""
    for logical_id, task in template.of_type("AWS::ECS::TaskDefinition"):
        if task.get("NetworkMode") != "awsvpc":
            yield logical_id, "shares its host's network; set NetworkMode: awsvpc"
        if task.get("PidMode") == "host":
            yield logical_id, "sees its host's processes; leave PidMode out"


RULES = (
    ecs_rolls_back_by_alarms,
    ecs_waits_for_the_gate,
    ecs_pause_stage,
    ecs_strategy_settings,
    ecs_shifts_between_two_groups,
    ecs_count_belongs_to_scaling,
    ecs_private_tasks,
    ecs_latest_platform,
    ecs_insights,
    fargate_has_no_gpu,
    containers_are_confined,
    tasks_are_isolated,
)
