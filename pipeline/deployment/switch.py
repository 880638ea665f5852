"""Puts a registered task definition into production by one gated deployment of a service that exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.aws.cloudwatch import alarm_states
from pipeline.aws.ecs import (
    RUNNING_STATUSES,
    Service,
    describe_deployment,
    describe_revision,
    describe_service,
    list_deployments,
    release_of,
    update_service,
)
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.access import caller_cidr
from pipeline.deployment.follower import GATE_STAGE, Follower, Gate, Wanted, ignore
from pipeline.deployment.place import Place, find_place
from pipeline.errors import AwsError, GateRefused, Locked, PipelineError, StateUnknown, UsageError
from pipeline.results import GateResult, RolledOut, Target
from pipeline.waiting import Clock

SLACK_S = 5400  # hook (30 min at most), drain, clean-up


def switch(
    config: Config, aws: Aws, clock: Clock, gates: Sequence[Gate], *,
    service: str, task_definition_arn: str, image_digest: str, bake_minutes: int,
    tell: Callable[[str], None] = ignore, intend: Callable[[str], None] = ignore,
    on_gate: Callable[[GateResult], None] = ignore,
) -> RolledOut:  # fmt: skip
    """Deploy the task definition, gate it on the test listener, and wait until ECS has finished.

    A deployment of the same task definition that an interrupted run left is taken up. Raises GateRefused (3),
    RolledBack (4), StateUnknown (5), or Locked (7) when another release's deployment runs.
    """
    place = find_place(config, aws, service)
    follower = Follower(
        aws, clock, place, wanted(config, service, task_definition_arn, image_digest), gates, tell, intend, on_gate
    )  # fmt: skip
    live = _guarded(aws, place, tell)
    known = frozenset(arn for arn, _ in list_deployments(aws, place.cluster, place.service))
    follower.deployment_arn = _own_running(aws, place, task_definition_arn)
    try:
        if not follower.deployment_arn and not _is_live(aws, place, follower, task_definition_arn):
            follower.foreign = known
            intend(f"ecs:UpdateService {place.service} {task_definition_arn}")
            update_service(aws, place.cluster, live, task_definition_arn, bake_minutes)
        follow(follower, config.poll_interval_s, _limit_s(config, service))
    except BaseException:
        give_up(follower)
        raise
    return finish(follower)


def wanted(config: Config, service: str, task_definition_arn: str, image_digest: str) -> Wanted:
    """What the follower holds the deployment to. Who may reach the gate is asked now: later it would be in vain."""
    settings = config.services[service]
    return Wanted(
        task_definition_arn=task_definition_arn,
        image_digest=image_digest,
        start_deadline_s=settings.rollout.start_deadline_s,
        max_failed_tasks=settings.rollout.max_failed_tasks,
        runner_cidr=settings.gate.runner_cidr or caller_cidr(),
    )


def follow(follower: Follower, interval_s: float, limit_s: float) -> None:
    """Step until the deployment is over. Raises StateUnknown when it is not after `limit_s` seconds."""
    deadline = follower.clock.monotonic() + limit_s
    while not follower.step():
        if follower.clock.monotonic() > deadline:
            raise StateUnknown(
                f"Deployment {follower.deployment_arn} is not over after {limit_s:.0f} s.",
                f"see `onnxship status {follower.place.options}`; stop it: `onnxship abort {follower.place.options}`",
            )
        follower.clock.sleep(interval_s)


def finish(follower: Follower) -> RolledOut:
    """The result, once the gates have passed: where no hook ran, they run on the production listener now."""
    if isinstance(follower.ending, PipelineError):
        raise follower.ending
    if follower.ending is None:
        raise StateUnknown("The deployment was not followed to its end.", "see `onnxship status`")
    if follower.results or not follower.gates:
        return follower.ending
    follower.tell("no hook asked for the gate; running it on the production listener")
    follower.run_gates_on(Target(follower.place.production_url))
    if follower.refusal:
        raise StateUnknown(
            f"The release serves production, but {follower.refusal.reason}.",
            f"go back with `onnxship rollback {follower.place.options}`, or ship a corrected release",
            details=follower.refusal.lines,
        )
    return replace(follower.ending, gates=follower.results)


def give_up(follower: Follower) -> None:
    """Abandon the deployment; when even that is refused, say what happens instead."""
    try:
        follower.abandon()
    except AwsError as error:
        follower.tell(f"It could not be stopped: {error.what} - ECS rolls back by itself when its hook times out.")


def _limit_s(config: Config, service: str) -> float:
    rollout = config.services[service].rollout
    return rollout.start_deadline_s + rollout.bake_minutes * 60 + SLACK_S


def _guarded(aws: Aws, place: Place, tell: Callable[[str], None]) -> Service:
    """The service as it is. Raises GateRefused when nothing would gate or watch its new release."""
    service = _existing(aws, place)
    if not service.rollback_alarms:
        raise GateRefused(
            f"Service {service.name} has no rollback alarms: after production shifts nothing would watch the release.",
            f"run `onnxship deploy {place.options}`, which sets them",
        )
    if GATE_STAGE not in service.hook_stages:
        raise GateRefused(
            f"Service {service.name} has no PAUSE hook at {GATE_STAGE}: the release could not be gated.",
            f"run `onnxship deploy {place.options}`, which sets it",
        )
    states = alarm_states(aws, service.rollback_alarms)
    if absent := [name for name in service.rollback_alarms if name not in states]:
        raise GateRefused(
            f"Rollback alarms of service {service.name} do not exist: {', '.join(absent)}.",
            f"run `onnxship deploy {place.options}`, which creates them",
        )
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
    if firing := [name for name, state in states.items() if state == "ALARM"]:
        tell(f"WARNING: in ALARM before the deployment starts, so ECS will not roll back on them: {', '.join(firing)}")
    return service


def _existing(aws: Aws, place: Place) -> Service:
    service = describe_service(aws, place.cluster, place.service)
    if service is None:
        raise UsageError(
            f"Service {place.service} does not exist in cluster {place.cluster}.",
            f"run `onnxship ship {place.options}`",
        )
    return service


def _own_running(aws: Aws, place: Place, task_definition_arn: str) -> str:
    """The running deployment when it is this release's own, "" when none runs. Raises Locked for another's."""
    for arn, _ in list_deployments(aws, place.cluster, place.service, RUNNING_STATUSES):
        deployment = describe_deployment(aws, arn)
        if deployment is None or deployment.has_ended:
            continue
        revision = describe_revision(aws, deployment.target_revision)
        running = revision.task_definition if revision else ""
        if running == task_definition_arn:
            return arn
        raise Locked(
            f"Another deployment runs: {arn} of release `{release_of(aws, running) or 'unknown'}`, {running} "
            f"({deployment.status}, stage {deployment.stage or 'none'}).",
            f"wait for it, or stop it with `onnxship abort {place.options}`",
            details=tuple(
                f"aws ecs continue-service-deployment --service-deployment-arn {arn} --hook-id {hook.hook_id} "
                "--action ROLLBACK"
                for hook in deployment.hooks
                if hook.status == "AWAITING_ACTION"
            ),
        )
    return ""


def _is_live(aws: Aws, place: Place, follower: Follower, task_definition_arn: str) -> bool:
    """Whether the newest deployment brought this very task definition, so that only its result is missing."""
    newest = list_deployments(aws, place.cluster, place.service)[:1]
    deployment = describe_deployment(aws, newest[0][0]) if newest else None
    if deployment is None or deployment.status != "SUCCESSFUL":
        return False
    revision = describe_revision(aws, deployment.target_revision)
    if revision is None or revision.task_definition != task_definition_arn:
        return False
    follower.deployment_arn = deployment.arn
    return True
