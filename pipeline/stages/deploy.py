"""`onnxship deploy`: the stacks of a service, in two halves with the task definition registered in between.

First `network`, `cluster` and `runtime`, then `service` and `observability`. Outputs travel by name from one stack
to the parameters of the next. CloudFormation owns the infrastructure; what runs, and which target group has the
weight, is ECS's: those parameters of `service` are always the live values, never the stack's own memory of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipeline import stacks, templates
from pipeline.aws import cloudformation, ecs, elbv2
from pipeline.aws.cloudformation import Stack
from pipeline.aws.session import Aws
from pipeline.config import Config, ExistingVpc
from pipeline.deployment.live import live_revision_of
from pipeline.errors import ConfigError, Locked, StateUnknown
from pipeline.results import Deployed, StackChange
from pipeline.stacks import Stacks
from pipeline.templates import StackSpec
from pipeline.waiting import Clock

PER_SERVICE = ("runtime", "service", "observability")
# What ECS and autoscaling change by themselves. A difference in these alone is nothing to do.
GOVERNED = frozenset(
    {"TaskDefinitionArn", "BlueWeight", "GreenWeight", "TestBlueWeight", "TestGreenWeight", "InitialDesiredCount"}
)


def deploy_foundation(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    service: str,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Deployed:
    """Bring up `network` (unless the VPC is the user's own), `cluster` and `runtime`.

    With `dry_run` only reads are made; the stacks say `would-create`, `would-update` or `unchanged`.
    """
    work = Stacks(aws, clock, config.poll_interval_s, on_progress)
    own_vpc = isinstance(config.network.vpc, ExistingVpc)
    changes = []
    for template in ("cluster", "runtime") if own_vpc else ("network", "cluster", "runtime"):
        changes.append(_bring_up(config, work, template, service, dry_run=dry_run))
    return Deployed(tuple(changes))


def deploy_service(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    service: str,
    task_definition_arn: str,
    follow: Callable[[], None] = stacks.nothing,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Deployed:
    """Bring up `service` and `observability`. `task_definition_arn` is what a *new* service starts with.

    `follow` is called on every poll while CloudFormation works on `service`, so that the caller can answer ECS's
    hook: it should answer and remember, not raise, so that the stack's end is still seen. An existing service keeps
    its live task definition and weights. Raises Locked while a deployment runs and there is something to change,
    StateUnknown when the weights are others afterwards.
    """
    rollout = config.services[service].rollout
    timeout_s = stacks.TIMEOUT_S + (rollout.shift_minutes + rollout.bake_minutes) * 60
    work = Stacks(aws, clock, config.poll_interval_s, on_progress, follow, timeout_s)
    first = {"TaskDefinitionArn": task_definition_arn}
    if dry_run:
        changes = [_bring_up(config, work, "service", service, first, dry_run=True)]
    else:
        changes = [_service_stack(config, work, service, first)]
    plain = replace(work, follow=stacks.nothing)
    changes.append(_bring_up(config, plain, "observability", service, dry_run=dry_run))
    return Deployed(tuple(changes))


def known_values(config: Config, aws: Aws, service: str) -> dict[str, str]:
    """The outputs of every stack there is so far and the user's own VPC, under the names of parameters."""
    values: dict[str, str] = {}
    for template in ("registry", "network", "cluster", "runtime", "service"):
        values |= cloudformation.outputs(aws, _stack_name(config, template, service))
    return values | _existing_vpc(config, aws)


def _stack_name(config: Config, template: str, service: str) -> str:
    return config.stack_name(template, service if template in PER_SERVICE else None)


def _spec(config: Config, aws: Aws, template: str, service: str, values: Mapping[str, str]) -> StackSpec:
    known = known_values(config, aws, service)
    if template == "cluster":
        _refuse_no_ingress(config)
        if config.edge.scheme == "internal":
            # An internal load balancer stands beside the tasks.
            known |= {"PublicSubnetIds": known.get("PrivateSubnetIds", "")}
    named = service if template in PER_SERVICE else None
    return templates.stack_spec(config, template, {**known, **values}, service=named)


def _bring_up(
    config: Config, work: Stacks, template: str, service: str, values: Mapping[str, str] | None = None, *, dry_run: bool
) -> StackChange:
    name = _stack_name(config, template, service)
    # In a dry run an absent stack may need outputs of others that are not there either.
    if dry_run and cloudformation.describe_stack(work.aws, name) is None:
        return StackChange(name, "would-create")
    spec = _spec(config, work.aws, template, service, values or {})
    return stacks.difference(work.aws, spec, GOVERNED) if dry_run else work.bring_up(spec)


def _service_stack(config: Config, work: Stacks, service: str, first: Mapping[str, str]) -> StackChange:
    count = {"InitialDesiredCount": str(config.services[service].compute.min)}
    spec = _spec(config, work.aws, "service", service, {**first, **count})
    stack = work.settle(spec)
    if stack is None:
        return work.bring_up(spec)
    previous = {name: None if name in GOVERNED & stack.parameters.keys() else v for name, v in spec.parameters.items()}
    real_change = work.propose(replace(spec, parameters=previous), stack)
    if real_change is None:
        return StackChange(spec.name, "unchanged")
    work.discard(spec, stack, real_change)
    _refuse_running_deployment(work.aws, stack)
    return _update_service_stack(work, spec, stack)


def _update_service_stack(work: Stacks, spec: StackSpec, stack: Stack) -> StackChange:
    """Sync first, then the real change: so even CloudFormation's own rollback lands on what is live now."""
    before = live_values(work.aws, stack)
    newest_before = _newest_deployment(work.aws, stack)
    if any(stack.parameters.get(name) != value for name, value in before.items()):
        synced: dict[str, str | None] = {name: before.get(name) for name in stack.parameters}
        work.on_progress(f"{spec.name}: bringing its parameters to the live values first")
        work.bring_up(replace(spec, template_body=None, parameters=synced))
    change = work.bring_up(replace(spec, parameters={**spec.parameters, **before}))
    _compare(work.aws, stack, before, newest_before)
    return change


def live_values(aws: Aws, stack: Stack) -> dict[str, str]:
    """The governed parameters of a service stack as they are in ECS and the load balancer now."""
    outputs = stack.outputs
    service = ecs.describe_service(aws, _cluster(stack), outputs["ServiceName"])
    if service is None:
        raise StateUnknown(
            f"Stack {stack.name} exists, but its service {outputs['ServiceName']} does not.",
            "look at the cluster in the ECS console; `onnxship destroy` and a new ship bring it back",
        )
    blue, green = outputs["BlueTargetGroupArn"], outputs["GreenTargetGroupArn"]
    production = elbv2.rule_weights(aws, outputs["ProductionRuleArn"])
    test = elbv2.rule_weights(aws, outputs["TestRuleArn"])
    return {
        "TaskDefinitionArn": live_revision_of(aws, _cluster(stack), outputs["ServiceName"]).task_definition_arn,
        "BlueWeight": str(production.get(blue, 0)),
        "GreenWeight": str(production.get(green, 0)),
        "TestBlueWeight": str(test.get(blue, 0)),
        "TestGreenWeight": str(test.get(green, 0)),
        # 0 leaves the count to autoscaling: a number here would be set again at every update.
        "InitialDesiredCount": "0",
    }


def _cluster(stack: Stack) -> str:
    return stack.parameters["ClusterName"]


def _newest_deployment(aws: Aws, stack: Stack) -> str:
    found = ecs.list_deployments(aws, _cluster(stack), stack.outputs["ServiceName"])
    return found[0][0] if found else ""


def _refuse_running_deployment(aws: Aws, stack: Stack) -> None:
    running = ecs.list_deployments(aws, _cluster(stack), stack.outputs["ServiceName"], ecs.RUNNING_STATUSES)
    if running:
        raise Locked(
            f"{stack.name} has something to change, but a deployment of its service runs: {running[0][0]}.",
            "wait for its end (`onnxship status`), or stop it with `onnxship abort`",
        )


def _compare(aws: Aws, stack: Stack, before: Mapping[str, str], newest_before: str) -> None:
    """Raise StateUnknown when the weights are others than before and no deployment of ECS's explains it."""
    after = live_values(aws, stack)
    names = ("BlueWeight", "GreenWeight", "TestBlueWeight", "TestGreenWeight")
    moved = [f"{name}: {before[name]} -> {after[name]}" for name in names if before[name] != after[name]]
    was_deployed = _newest_deployment(aws, stack) != newest_before
    one_is_live = [after["BlueWeight"], after["GreenWeight"]].count("0") == 1
    if moved and not (was_deployed and one_is_live):
        raise StateUnknown(
            f"After the update of {stack.name} the weights of its rules are others than before.",
            "see with `onnxship status` which target group has healthy tasks and which weight",
            details=tuple(moved),
        )


def _refuse_no_ingress(config: Config) -> None:
    if not config.edge.ingress_cidrs:
        raise ConfigError(
            "edge.ingress_cidrs is empty, so nobody could reach the service.",
            "name who may, for example `edge: {ingress_cidrs: [203.0.113.0/24]}` (0.0.0.0/0 is everybody)",
        )


def _existing_vpc(config: Config, aws: Aws) -> dict[str, str]:
    vpc = config.network.vpc
    if not isinstance(vpc, ExistingVpc):
        return {}
    found = aws.call("ec2", "describe_vpcs", VpcIds=[vpc.vpc_id])["Vpcs"]
    return {
        "VpcId": vpc.vpc_id,
        "VpcCidrBlock": found[0]["CidrBlock"],
        "PrivateSubnetIds": ",".join(vpc.private_subnets),
        "PublicSubnetIds": ",".join(vpc.public_subnets),
    }
