"""What runs now: by ECS, by the load balancer and its alarms, and by the ledger."""

from __future__ import annotations

from collections import Counter

from pipeline.aws.cloudformation import outputs
from pipeline.aws.cloudwatch import alarm_states
from pipeline.aws.ecs import (
    RUNNING_STATUSES,
    describe_deployment,
    describe_revision,
    describe_service,
    list_deployments,
)
from pipeline.aws.elbv2 import rule_weights, target_health
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import read_lock
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.live import LiveRevision, live_revision
from pipeline.deployment.place import Place, find_place, ledger_of, lock_place
from pipeline.errors import StateUnknown
from pipeline.results import RunningDeployment, Status, TargetGroupState


def status(config: Config, aws: Aws, *, service: str) -> Status:
    """The service as it is. Reads only."""
    place = find_place(config, aws, service)
    described = describe_service(aws, place.cluster, place.service)
    if described is None:
        raise StateUnknown(
            f"Stack {config.stack_name('service', service)} names service {place.service}, which ECS does not know.",
            f"run `onnxship deploy {place.options}`",
        )
    live = live_revision(aws, place)
    lock = read_lock(aws, lock_place(config, aws, service))
    release_id, agreement = _ledger(ledger_of(config, aws, service), live, place)
    return Status(
        environment=config.environment_name,
        service=service,
        production_url=place.production_url,
        release_id=release_id,
        task_definition_arn=live.task_definition_arn,
        image_digest=live.image_digest,
        desired_count=described.desired_count,
        running_count=described.running_count,
        pending_count=described.pending_count,
        target_groups=_target_groups(aws, outputs(aws, config.stack_name("service", service))),
        deployments=_running(aws, place),
        alarms=alarm_states(aws, described.rollback_alarms),
        ledger=agreement,
        lock=f"held by {lock.description} since {lock.since} until {lock.expires_at}" if lock.held else "free",
    )


def _ledger(ledger: Ledger, live: LiveRevision, place: Place) -> tuple[str, str]:
    """The release id that serves, and whether the pointer agrees with ECS."""
    current = ledger.current()
    if current and current.task_definition_arn == live.task_definition_arn:
        return current.release_id, "agrees with ECS"
    for record in ledger.history():
        if record.task_definition_arn == live.task_definition_arn:
            named = current.release_id if current else "nothing"
            return record.serves or record.release_id, f"names {named}; the next `onnxship ship` puts that right"
    said = f"names {current.release_id}" if current else "is empty"
    return "", f"{said}, but ECS runs a task definition without a record; see `onnxship history {place.options}`"


def _target_groups(aws: Aws, stack: dict[str, str]) -> tuple[TargetGroupState, ...]:
    production = rule_weights(aws, stack["ProductionRuleArn"])
    test = rule_weights(aws, stack["TestRuleArn"])
    return tuple(
        TargetGroupState(
            name=name,
            production_weight=production.get(stack[key], 0),
            test_weight=test.get(stack[key], 0),
            targets=dict(Counter(target.state for target in target_health(aws, stack[key]))),
        )
        for name, key in (("blue", "BlueTargetGroupArn"), ("green", "GreenTargetGroupArn"))
    )


def _running(aws: Aws, place: Place) -> tuple[RunningDeployment, ...]:
    running = []
    for arn, _ in list_deployments(aws, place.cluster, place.service, RUNNING_STATUSES):
        deployment = describe_deployment(aws, arn)
        if deployment is None or deployment.has_ended:
            continue
        revision = describe_revision(aws, deployment.target_revision)
        waits = any(hook.status == "AWAITING_ACTION" for hook in deployment.hooks)
        running.append(
            RunningDeployment(
                arn=arn,
                status=deployment.status,
                stage=deployment.stage,
                task_definition_arn=revision.task_definition if revision else "",
                answer=f"onnxship abort {place.options}" if waits else "",
            )
        )
    return tuple(running)
