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
    release_of,
)
from pipeline.aws.elbv2 import rule_weights, target_health
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import read_lock
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.live import serving_revision
from pipeline.deployment.place import Place, find_place, ledger_of, lock_place
from pipeline.errors import StateUnknown
from pipeline.results import Outcome, Record, RunningDeployment, Status, TargetGroupState


def status(config: Config, aws: Aws, *, service: str) -> Status:
    """The service as it is. Reads only."""
    place = find_place(config, aws, service)
    described = describe_service(aws, place.cluster, place.service)
    if described is None:
        raise StateUnknown(
            f"Stack {config.stack_name('service', service)} names service {place.service}, which ECS does not know.",
            f"run `onnxship deploy {place.options}`",
        )
    serving = serving_revision(aws, place)
    tagged = release_of(aws, serving.task_definition_arn)
    lock = read_lock(aws, lock_place(config, aws, service))
    release_id, agreement = _ledger(
        ledger_of(config, aws, service), place, serving.task_definition_arn, tagged, is_locked=lock.held
    )
    return Status(
        environment=config.environment_name,
        service=service,
        production_url=place.production_url,
        release_id=release_id,
        task_definition_arn=serving.task_definition_arn,
        image_digest=serving.image_digest,
        desired_count=described.desired_count,
        running_count=described.running_count,
        pending_count=described.pending_count,
        target_groups=_target_groups(aws, outputs(aws, config.stack_name("service", service))),
        deployments=_running(aws, place),
        alarms=alarm_states(aws, described.rollback_alarms),
        ledger=agreement,
        lock=f"held by {lock.description} since {lock.since} until {lock.expires_at}" if lock.held else "free",
    )


def _ledger(
    ledger: Ledger, place: Place, task_definition_arn: str, tagged: str, *, is_locked: bool
) -> tuple[str, str]:  # fmt: skip
    """The release id that serves, by its task definition's tag, and whether the pointer agrees; if not, what to do."""
    current = ledger.current()
    if current and current.task_definition_arn == task_definition_arn:
        return tagged or current.release_id, "agrees with ECS"
    said = f"names {current.release_id}" if current else "is empty"
    record = ledger.record(tagged) if tagged else _recorded(ledger, task_definition_arn)
    if record and record.outcome is Outcome.LIVE and record.task_definition_arn == task_definition_arn:
        return record.serves or record.release_id, f"{said}; the next `onnxship ship` puts that right"
    if tagged and not record and (draft := ledger.draft(tagged)):
        if is_locked:
            return tagged, f"{said}; release {tagged} gets its record from the run that holds the lock"
        return tagged, f"{said}; release {tagged} serves without a record: `{draft.resume_command}` finishes it"
    runs = f"release {tagged}" if tagged else "a task definition"
    return tagged, (
        f"{said}, but ECS runs {runs} without a record of it as live; "
        f"go to a known release: `onnxship rollback RELEASE {place.options}`"
    )


def _recorded(ledger: Ledger, task_definition_arn: str) -> Record | None:
    return next((record for record in ledger.history() if record.task_definition_arn == task_definition_arn), None)


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
        definition = revision.task_definition if revision else ""
        waits = any(hook.status == "AWAITING_ACTION" for hook in deployment.hooks)
        running.append(
            RunningDeployment(
                arn=arn,
                release_id=release_of(aws, definition),
                status=deployment.status,
                stage=deployment.stage,
                task_definition_arn=definition,
                answer=f"onnxship abort {place.options}" if waits else "",
            )
        )
    return tuple(running)
