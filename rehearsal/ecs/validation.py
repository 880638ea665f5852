"""What CreateService and UpdateService refuse at once.

Texts: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshooting-blue-green.html
"""

from __future__ import annotations

from rehearsal.ecs.refusals import invalid, unsupported
from rehearsal.ecs.state import Json

UNREHEARSED = (
    "serviceConnectConfiguration",
    "serviceRegistries",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "gatewayConnectors",
)
NO_PAUSE_AT = ("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT")
MOST_PAUSE_HOOKS = 10
OWNERS = {"canaryConfiguration": "CANARY", "linearConfiguration": "LINEAR"}
RANGES = {
    "canaryConfiguration": (("canaryPercent", 0.1, 100), ("canaryBakeTimeInMinutes", 0, 1440)),
    "linearConfiguration": (("stepPercent", 3, 100), ("stepBakeTimeInMinutes", 0, 1440)),
}


def check_spec(spec: Json, definition: Json) -> None:
    """Raise AWS's refusal of a service that cannot be, or ours of one that is not rehearsed."""
    config = spec.get("deploymentConfiguration") or {}
    strategy = config.get("strategy") or "ROLLING"
    _check_rehearsed(spec)
    _check_steps(config, strategy)
    _check_hooks(config.get("lifecycleHooks") or [])
    _check_balancers(spec.get("loadBalancers") or [], strategy, definition)
    if strategy == "BLUE_GREEN" and config.get("bakeTimeInMinutes") is None:
        raise invalid("bakeTimeInMinutes must be specified when the deployment strategy is BLUE_GREEN.")
    network = (spec.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    if definition.get("networkMode") == "awsvpc" and not network:
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")


def configured(before: Json, change: Json) -> Json:
    """A deployment configuration after an update: what is not named stays, but for another strategy's own settings."""
    after = {**before, **change}
    strategy = after.get("strategy") or "ROLLING"
    foreign = [key for key, owner in OWNERS.items() if owner != strategy and key not in change]
    return {key: value for key, value in after.items() if key not in foreign}


def _check_steps(config: Json, strategy: str) -> None:
    """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html: "only valid when" """
    for key, owner in OWNERS.items():
        if config.get(key) and strategy != owner:
            raise invalid(f"{key} is only valid when the deployment strategy is {owner}.")
        for name, least, most in RANGES[key]:
            value = (config.get(key) or {}).get(name)
            if value is not None and not least <= value <= most:
                raise invalid(f"{name} must be between {least} and {most}.")


def _check_rehearsed(spec: Json) -> None:
    found = [key for key in UNREHEARSED if spec.get(key)]
    if found:
        raise unsupported(f"Not rehearsed in a service: {', '.join(found)}.")
    controller = (spec.get("deploymentController") or {}).get("type", "ECS")
    if controller != "ECS":
        raise unsupported(f"The rehearsal has no deployment controller {controller}.")
    if spec.get("schedulingStrategy") == "DAEMON":
        raise unsupported("The rehearsal has no DAEMON services.")


def _check_hooks(hooks: list[Json]) -> None:
    for hook in hooks:
        if hook.get("targetType", "AWS_LAMBDA") != "PAUSE":
            raise unsupported("The rehearsal has no AWS_LAMBDA lifecycle hooks; PAUSE hooks are rehearsed.")
        if any(stage in NO_PAUSE_AT for stage in hook.get("lifecycleStages") or []):
            raise invalid("Invalid lifecycle stage provided for Pause Hook")
    if len(hooks) > MOST_PAUSE_HOOKS:
        raise invalid(f"A service can have at most {MOST_PAUSE_HOOKS} pause hooks.")


def _check_balancers(balancers: list[Json], strategy: str, definition: Json) -> None:
    groups = [balancer.get("targetGroupArn") for balancer in balancers]
    for balancer in balancers:
        if not balancer.get("targetGroupArn"):
            raise unsupported("The rehearsal has no Classic Load Balancers.")
        _check_port(balancer, definition)
        _check_advanced(balancer.get("advancedConfiguration"), strategy)
    duplicate = next((group for group in groups if groups.count(group) > 1), None)
    if duplicate:
        raise invalid(f"Duplicate targetGroupArn found: {duplicate}")


def _check_port(balancer: Json, definition: Json) -> None:
    container = next(
        (one for one in definition["containerDefinitions"] if one["name"] == balancer["containerName"]), None
    )
    if container is None:
        raise invalid(f"The container {balancer['containerName']} does not exist in the task definition.")
    ports = [mapping["containerPort"] for mapping in container.get("portMappings") or []]
    if balancer["containerPort"] not in ports:
        raise invalid(
            f"The container {balancer['containerName']} did not have a container port {balancer['containerPort']}"
            " defined."
        )


def _check_advanced(advanced: Json | None, strategy: str) -> None:
    if advanced is None:
        if strategy != "ROLLING":
            raise invalid(
                "advancedConfiguration field is required for all loadBalancers when using a non-ROLLING deployment"
                " strategy"
            )
        return
    production, test = advanced.get("productionListenerRule"), advanced.get("testListenerRule")
    for name, rule in (("productionListenerRule", production), ("testListenerRule", test)):
        if rule and ":listener-rule/" not in rule:
            raise invalid(
                f"{name} has an invalid ARN format. Must be RuleArn for ALB or ListenerArn for NLB. Got: {rule}"
            )
    if production and production == test:
        raise invalid(f"The following rules cannot be used as both production and test listener rules: {production}")
