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
from pipeline.config import Config, Rollout
from pipeline.deployment.access import caller_of
from pipeline.deployment.endings import Refusal, overruled
from pipeline.deployment.follower import GATE_STAGE, Follower, Gate, Wanted, ignore
from pipeline.deployment.gate_place import find_gate_place
from pipeline.deployment.place import Place, find_place
from pipeline.deployment.strategy import configuration, note_on
from pipeline.errors import AwsError, GateRefused, Locked, PipelineError, StateUnknown, UsageError
from pipeline.results import GateResult, RolledOut, Target
from pipeline.waiting import Clock

SLACK_S = 5400  # hook (30 min at most), drain, clean-up


def switch(
    config: Config, aws: Aws, clock: Clock, gates: Sequence[Gate], *,
    service: str, task_definition_arn: str, image_digest: str, at_once: bool = False,
    tell: Callable[[str], None] = ignore, intend: Callable[[str], None] = ignore,
    on_gate: Callable[[GateResult], None] = ignore, on_alarms: Callable[[tuple[str, ...]], None] = ignore,
) -> RolledOut:  # fmt: skip
    """Deploy the task definition, gate it on the test listener, and wait until ECS has finished.

    ROLLING has no test listener: the gates ask production, once it reaches the new tasks alone. A deployment of the
    same task definition that an interrupted run left is taken up. `at_once` leaves out steps and bake, for going back.
    `on_alarms` hears which rollback alarms ring before the start. Raises UsageError (2) before it when a gate's task
    could not be started, GateRefused (3), RolledBack (4), StateUnknown (5), or Locked (7) when another release's runs.
    """
    place = find_place(config, aws, service)
    follower = Follower(
        aws, clock, place, wanted(config, service, task_definition_arn, image_digest), gates, tell, intend, on_gate
    )  # fmt: skip
    live, rollout = _existing(aws, place), config.services[service].rollout
    rollout = rollout.at_once(live.strategy) if at_once else rollout
    ringing = _guard(aws, place, live, rollout, tell)
    on_alarms(ringing)
    known = frozenset(arn for arn, _ in list_deployments(aws, place.cluster, place.service))
    follower.deployment_arn = _own_running(aws, place, task_definition_arn)
    starts = not follower.deployment_arn and not _is_live(aws, place, follower, task_definition_arn)
    if starts and gates:
        _check_gates_can_run(config, aws, place, rollout)
    try:
        if starts:
            follower.foreign = known
            intend(f"ecs:UpdateService {place.service} {task_definition_arn}")
            tasks = config.services[service].compute.min
            sent = configuration(rollout, live.deployment_configuration, tasks)
            update_service(aws, place.cluster, live, task_definition_arn, sent)
        follow(follower, config.poll_interval_s, limit_s(rollout))
    except Locked as lost:
        raise overtaken(follower, lost, config.poll_interval_s, limit_s(rollout)) from lost
    except BaseException:
        give_up(follower)
        raise
    return replace(finish(config, follower, rollout), alarms_in_alarm_before=ringing)


def wanted(config: Config, service: str, task_definition_arn: str, image_digest: str) -> Wanted:
    """What the follower holds the deployment to."""
    settings = config.services[service]
    return Wanted(
        task_definition_arn=task_definition_arn,
        image_digest=image_digest,
        start_deadline_s=settings.rollout.start_deadline_s,
        max_failed_tasks=settings.rollout.max_failed_tasks,
        caller=caller_of(settings.gate),
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


def finish(config: Config, follower: Follower, rollout: Rollout) -> RolledOut:
    """The result, once the gates have passed: where no hook ran, they run on the production listener now.

    What is over and a gate refused does not stay: the release before it is deployed again (RolledBack).
    """
    if isinstance(follower.ending, PipelineError):
        raise _noted(follower.ending) if follower.is_rolling else follower.ending
    if follower.ending is None:
        raise StateUnknown("The deployment was not followed to its end.", "see `onnxship status`")
    if follower.gates and not (follower.results or follower.refusal):
        follower.tell("no hook asked for the gate; running it on the production listener")
        follower.run_gates_on(Target(follower.place.production_url))
    if follower.refusal:
        error = _take_back(config, follower, follower.refusal, rollout)
        raise _noted(error) if follower.is_rolling else error
    note = note_on("ROLLING") if follower.is_rolling else ""
    return replace(follower.ending, gates=follower.results, note=note)


def _noted(error: PipelineError) -> PipelineError:
    """The error of a release without a gate says why users saw it."""
    error.details += (note_on("ROLLING"),)
    return error


def _take_back(config: Config, follower: Follower, refusal: Refusal, rollout: Rollout) -> PipelineError:
    """Deploy again what served before a finished deployment; the error that the release ends with."""
    place, aws = follower.place, follower.aws
    ended = describe_deployment(aws, follower.deployment_arn)
    source = describe_revision(aws, ended.source_revisions[0]) if ended and ended.source_revisions else None
    service = describe_service(aws, place.cluster, place.service)
    error = refusal.error(place, refusal.explain(aws, place), had_production=True)
    if source is None or service is None:
        return error  # the first release: whoever created the service removes it
    follower.tell(f"the deployment is over already; going back to {source.task_definition}")
    known = frozenset(arn for arn, _ in list_deployments(aws, place.cluster, place.service))
    limits = replace(
        follower.wanted, task_definition_arn=source.task_definition, image_digest=(*source.image_digests, "")[0]
    )
    back = Follower(aws, follower.clock, place, limits, (), follower.tell, follower.intend, foreign=known)
    follower.intend(f"ecs:UpdateService {place.service} {source.task_definition}")
    tasks = config.services[place.service_key].compute.min
    sent = configuration(rollout.at_once(service.strategy), service.deployment_configuration, tasks)
    update_service(aws, place.cluster, service, source.task_definition, sent)
    follow(back, config.poll_interval_s, limit_s(rollout))
    if isinstance(back.ending, RolledOut):
        return error
    return StateUnknown(
        f"The release was turned down ({refusal.reason}), and going back from it failed as well: {back.ending}",
        f"look what runs with `onnxship status {place.options}`; go to a known release with "
        f"`onnxship rollback RELEASE {place.options}`",
    )


def overtaken(follower: Follower, lost: Locked, interval_s: float, limit_s: float) -> PipelineError:
    """What a run ends with that lost its lock: what became of its deployment, if another run has stopped that.

    It only looks on. A deployment that nobody stopped is left to whoever has the lock, or to ECS's time-out.
    """
    arn = follower.deployment_arn
    deployment = describe_deployment(follower.aws, arn) if arn else None
    if deployment is None or deployment.status in ("PENDING", "IN_PROGRESS", "SUCCESSFUL"):
        return lost
    follower.refusal = overruled(follower.place, lost.what)
    follow(follower, interval_s, limit_s)
    return follower.ending if isinstance(follower.ending, PipelineError) else lost


def give_up(follower: Follower) -> None:
    """Abandon the deployment; when even that is refused, say what happens instead."""
    try:
        follower.abandon()
    except AwsError as error:
        follower.tell(f"It could not be stopped: {error.what} - ECS rolls back by itself when its hook times out.")


def limit_s(rollout: Rollout) -> float:
    """When a deployment must be over: start, every step of the traffic, bake, and ECS's own time."""
    return rollout.start_deadline_s + (rollout.shift_minutes + rollout.bake_minutes) * 60 + SLACK_S


def _check_gates_can_run(config: Config, aws: Aws, place: Place, rollout: Rollout) -> None:
    """Raise UsageError, before anything starts, when the gates' tasks could not: green would start for nothing."""
    gate = config.services[place.service_key].gate
    if gate.from_ != "vpc":
        return
    if rollout.is_gated:
        caller_of(gate)(place)
    find_gate_place(config, aws, place.service_key).check()


def _guard(aws: Aws, place: Place, service: Service, rollout: Rollout, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Which of the service's rollback alarms ring already.

    Raises GateRefused when nothing would gate or watch its new release, or a change to ROLLING is not prepared.
    """
    if not service.rollback_alarms:
        raise GateRefused(
            f"Service {service.name} has no rollback alarms: after production shifts nothing would watch the release.",
            f"run `onnxship deploy {place.options}`, which sets them",
        )
    if not rollout.is_gated and service.strategy != "ROLLING":
        raise GateRefused(
            f"Service {service.name} is still deployed by {service.strategy}; ROLLING replaces tasks in the target "
            "group that serves, and the service must name that one first.",
            f"run `onnxship deploy {place.options}`, which changes both",
        )
    if rollout.is_gated and GATE_STAGE not in service.hook_stages:
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
    if ringing := tuple(name for name, state in states.items() if state == "ALARM"):
        tell(f"WARNING: in ALARM before the deployment starts, so ECS will not roll back on them: {', '.join(ringing)}")
    return ringing


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
