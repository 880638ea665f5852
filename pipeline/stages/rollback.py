"""Goes back: stops the deployment that runs or bakes, else deploys a recorded release again, gated.

While the old tasks still run, going back needs neither S3 nor an image pull: one call, and the ledger afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.aws.ecs import (
    RUNNING_STATUSES,
    Deployment,
    describe_deployment,
    describe_revision,
    describe_task_definition,
    list_deployments,
    release_of,
    stop_deployment,
)
from pipeline.aws.ledger import Ledger, outcome_of
from pipeline.aws.lock import Lease, acquire
from pipeline.aws.registry import image_exists
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.access import clear_gate
from pipeline.deployment.follower import Gate, ignore
from pipeline.deployment.live import LiveRevision, live_revision, serving_revision
from pipeline.deployment.place import Place, artifact_bucket, find_place, ledger_of, lock_place
from pipeline.deployment.switch import switch
from pipeline.errors import AwsError, PipelineError, StateUnknown, UsageError
from pipeline.results import GateResult, Outcome, Record, Reverted, RollbackPlan, RolledOut
from pipeline.waiting import Clock, wait_until

STOP_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class Who:
    """Who goes back, for the lock and the record."""

    name: str
    run_url: str = ""


def rollback(
    config: Config, aws: Aws, clock: Clock, gates_for: Callable[[Record], Sequence[Gate]], *,
    service: str, who: Who, to: str | None = None,
    on_progress: Callable[[str], None] = ignore, on_gate: Callable[[GateResult], None] = ignore,
) -> Reverted:  # fmt: skip
    """Production on the release `to`, or on the one before the present one.

    `gates_for` gives the gates that hold the recorded release to its own golden inputs. A running `ship` is
    pre-empted: its next change is refused, and its name is in the result. Raises UsageError for an unknown release.
    """
    place = find_place(config, aws, service)
    began_s = clock.monotonic()
    event_id = f"{clock.now():%Y%m%d-%H%M%S}-rollback"
    stopped = stop_running(aws, clock, place, interval_s=config.poll_interval_s, on_progress=on_progress)
    if stopped and to is None:
        live = live_revision(aws, place)
        note = _record_stop(config, aws, clock, service, event_id, who, stopped, live)
        return Reverted(
            event_id=event_id, how="stopped-deployment", serves=release_of(aws, live.task_definition_arn),
            replaced=_release_of(aws, stopped),
            task_definition_arn=live.task_definition_arn, image_digest=live.image_digest, deployment_arn=stopped.arn,
            gates=(), stages=(), duration_s=round(clock.monotonic() - began_s, 3), ledger_note=note,
        )  # fmt: skip
    return _Return(config, aws, clock, place, service, event_id, who, on_progress, on_gate).run(to, gates_for)


def plan_rollback(
    config: Config, aws: Aws, *, service: str, to: str | None = None, gates: tuple[str, ...] = ()
) -> RollbackPlan:
    """What `rollback` would do, `gates` being the names of those it would ask. Reads only.

    Raises UsageError when it could not be done.
    """
    place = find_place(config, aws, service)
    running = _running(aws, place)
    live = live_revision(aws, place)
    ledger = ledger_of(config, aws, service)
    if running and to is None:
        serves = release_of(aws, live.task_definition_arn)
        record = ledger.record(serves) if serves else None
        return RollbackPlan(
            from_release=_release_of(aws, running), to_release=serves, how=f"stop deployment {running.arn}",
            task_definition_arn=live.task_definition_arn, image_digest=live.image_digest,
            image_is_there=bool(live.image_digest) and image_exists(
                aws, f"{config.project}-{config.environment_name}", live.image_digest
            ),
            model_sha256=model_sha256_of(record) if record else "", gates=(),
        )  # fmt: skip
    record = ledger.known(to) if to else ledger.previous_to(live.task_definition_arn)
    _check_usable(config, aws, record)
    is_live = not running and live.task_definition_arn == record.task_definition_arn
    return RollbackPlan(
        from_release=release_of(aws, serving_revision(aws, place).task_definition_arn),
        to_release=record.serves or record.release_id, how="nothing: it serves already" if is_live else "deploy",
        task_definition_arn=record.task_definition_arn, image_digest=record.image_digest, image_is_there=True,
        model_sha256=model_sha256_of(record), gates=() if is_live else gates,
    )  # fmt: skip


def stop_running(
    aws: Aws, clock: Clock, place: Place, *, interval_s: float, on_progress: Callable[[str], None] = ignore
) -> Deployment | None:
    """Stop the deployment that runs or bakes and wait until production is back; None when none runs (any more).

    Also what `abort` does. What a killed run's gate left behind is cleared. Raises StateUnknown when ECS could not go
    back.
    """
    stopped = _stop_running(aws, clock, place, interval_s, on_progress)
    try:
        clear_gate(aws, clock, place)
    except AwsError as error:
        on_progress(f"what an earlier gate left open could not be cleared: {error.what}")
    return stopped


def _stop_running(
    aws: Aws, clock: Clock, place: Place, interval_s: float, on_progress: Callable[[str], None]
) -> Deployment | None:  # fmt: skip
    deployment = _running(aws, place)
    if deployment is None:
        return None
    arn = deployment.arn
    on_progress(f"stopping deployment {arn} ({deployment.status}, stage {deployment.stage or 'none'})")
    if deployment.status in ("PENDING", "IN_PROGRESS"):
        _stop(aws, arn)
    ended = wait_until(
        lambda: _ended(aws, arn), clock=clock, timeout_s=STOP_TIMEOUT_S, interval_s=interval_s,
        on_timeout=lambda: StateUnknown(
            f"Deployment {arn} has not stopped after {STOP_TIMEOUT_S} s.", f"see `onnxship status {place.options}`"
        ),
    )  # fmt: skip
    if ended.status == "SUCCESSFUL":
        on_progress(f"deployment {arn} had finished before it could be stopped")
        return None
    if ended.status != "ROLLBACK_SUCCESSFUL":
        raise StateUnknown(
            f"Deployment {arn} ended as {ended.status}: {ended.rollback_reason or ended.status_reason or 'no reason'}.",
            f"look what runs: `onnxship status {place.options}`",
        )
    return ended


def _running(aws: Aws, place: Place) -> Deployment | None:
    running = list_deployments(aws, place.cluster, place.service, RUNNING_STATUSES)
    deployment = describe_deployment(aws, running[0][0]) if running else None
    return None if deployment is None or deployment.has_ended else deployment


def _stop(aws: Aws, arn: str) -> None:
    """Ask ECS to go back; that the deployment ended just before is no error."""
    try:
        stop_deployment(aws, arn)
    except AwsError:
        if _ended(aws, arn) is None:
            raise


@dataclass(frozen=True)
class _Return:
    """A deployment of a recorded release, under the lock, with a record of its own."""

    config: Config
    aws: Aws
    clock: Clock
    place: Place
    service: str
    event_id: str
    who: Who
    on_progress: Callable[[str], None]
    on_gate: Callable[[GateResult], None]

    def run(self, to: str | None, gates_for: Callable[[Record], Sequence[Gate]]) -> Reverted:
        began_s = self.clock.monotonic()
        ledger = ledger_of(self.config, self.aws, self.service)
        if found := self._target(ledger, to):
            _check_usable(self.config, self.aws, found)
        lease = acquire(
            self.aws, lock_place(self.config, self.aws, self.service),
            holder=self.who.name, run_url=self.who.run_url, command="onnxship rollback", preempt=True,
        )  # fmt: skip
        preempted = lease.preempted.description if lease.preempted else ""
        if preempted:
            self.on_progress(f"the run of {preempted} was pre-empted: its next change will be refused")
        with lease.kept_alive():
            record = found or self._repaired_target(ledger)
            replaced = current.release_id if (current := ledger.current()) else ""
            rolled_out = self._deploy(ledger, lease, record, gates_for(record))
        return Reverted(
            event_id=self.event_id, how="deployed" if rolled_out else "already-live",
            serves=record.serves or record.release_id, replaced=replaced, git_sha=record.git_sha,
            model_sha256=model_sha256_of(record), task_definition_arn=record.task_definition_arn,
            image_digest=record.image_digest,
            deployment_arn=rolled_out.deployment_arn if rolled_out else "",
            gates=rolled_out.gates if rolled_out else (), stages=rolled_out.stages if rolled_out else (),
            duration_s=round(self.clock.monotonic() - began_s, 3), preempted=preempted,
        )  # fmt: skip

    def _target(self, ledger: Ledger, to: str | None) -> Record | None:
        """What to go back to; None while the pointer names another release than serves, as a killed run leaves it."""
        if to:
            return ledger.known(to)
        current = ledger.current()
        serves = live_revision(self.aws, self.place).task_definition_arn
        return ledger.previous() if current is None or current.task_definition_arn == serves else None

    def _repaired_target(self, ledger: Ledger) -> Record:
        """The release before the one that really serves: the one before the pointer's would be one too far back."""
        serves = live_revision(self.aws, self.place).task_definition_arn
        if done := ledger.reconcile(serves, now=self.clock.now().isoformat()):
            self.on_progress(done)
        record = ledger.previous()
        _check_usable(self.config, self.aws, record)
        return record

    def _deploy(self, ledger: Ledger, lease: Lease, record: Record, gates: Sequence[Gate]) -> RolledOut | None:
        draft = ledger.open_draft(
            self.event_id, event="rollback", started_at=self.clock.now().isoformat(), who=self.who.name,
            run_url=self.who.run_url, serves=record.serves or record.release_id, git_sha=record.git_sha,
            committed_at=record.committed_at, image_digest=record.image_digest,
            task_definition_arn=record.task_definition_arn,
        )  # fmt: skip

        def intend(what: str) -> None:
            lease.confirm()
            draft.intend(what)

        def close(outcome: Outcome, reason: str, **facts: str) -> None:
            ledger.close(draft, outcome, reason, finished_at=self.clock.now().isoformat(), **facts)

        if live_revision(self.aws, self.place).task_definition_arn == record.task_definition_arn:
            close(Outcome.LIVE, "it was serving already")
            return None
        try:
            rolled_out = switch(
                self.config, self.aws, self.clock, gates, service=self.service,
                task_definition_arn=record.task_definition_arn, image_digest=record.image_digest,
                rollout=self.config.services[self.service].rollout.at_once(),
                tell=self.on_progress, intend=intend, on_gate=self.on_gate,
            )  # fmt: skip
        except PipelineError as error:
            if outcome := outcome_of(error):
                close(outcome, error.what)
            raise
        lease.confirm()
        close(Outcome.LIVE, f"rolled back by {self.who.name}", deployment_arn=rolled_out.deployment_arn)
        return rolled_out


def _check_usable(config: Config, aws: Aws, record: Record) -> None:
    """Before anything changes: the recorded image and task definition are still there."""
    definition = describe_task_definition(aws, record.task_definition_arn)
    if definition is None or definition.get("status") != "ACTIVE":
        raise UsageError(
            f"Release `{record.release_id}` cannot be gone back to: its task definition "
            f"{record.task_definition_arn} is not ACTIVE.",
            "choose another release: `onnxship history` lists them",
        )
    repository = f"{config.project}-{config.environment_name}"
    if not image_exists(aws, repository, record.image_digest):
        raise UsageError(
            f"Release `{record.release_id}` cannot be gone back to: its image {record.image_digest} is no longer "
            f"in repository {repository}.",
            "choose another release: `onnxship history` lists them",
        )


def model_sha256_of(record: Record) -> str:
    """The model that a recorded release published; "" when its record does not say."""
    return str((record.results.get("publish") or {}).get("model_sha256", ""))


def _ended(aws: Aws, arn: str) -> Deployment | None:
    deployment = describe_deployment(aws, arn)
    return deployment if deployment and deployment.has_ended else None


def _release_of(aws: Aws, deployment: Deployment) -> str:
    """The release that a deployment was to bring, or the deployment's ARN when its task definition does not say."""
    revision = describe_revision(aws, deployment.target_revision)
    return (release_of(aws, revision.task_definition) if revision else "") or deployment.arn


def _record_stop(
    config: Config, aws: Aws, clock: Clock, service: str, event_id: str, who: Who, stopped: Deployment,
    live: LiveRevision,
) -> str:  # fmt: skip
    """Write down that a deployment was stopped; production is back already, so a failure here is only said."""
    try:
        ledger = Ledger(aws, artifact_bucket(config, aws), config.environment_name, service)
        current = ledger.current()
        if current is None or current.task_definition_arn != live.task_definition_arn:
            return "the pointer does not name what serves; the next `onnxship ship` puts that right"
        now = clock.now().isoformat()
        draft = ledger.open_draft(
            event_id, event="rollback", started_at=now, who=who.name, run_url=who.run_url, serves=current.release_id,
            git_sha=current.git_sha, committed_at=current.committed_at, image_digest=live.image_digest,
            task_definition_arn=live.task_definition_arn, deployment_arn=stopped.arn,
        )  # fmt: skip
        ledger.close(draft, Outcome.LIVE, f"{who.name} stopped deployment {stopped.arn}", finished_at=now)
    except PipelineError as error:
        return f"production is back, but it could not be recorded: {error.what}"
    return ""
