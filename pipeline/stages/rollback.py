"""Goes back: stops the deployment that runs or bakes, else deploys a recorded release again, gated.

While the old tasks still run, going back needs neither S3 nor an image pull: one call, and the ledger afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pipeline.aws.ecs import Deployment, describe_revision, describe_task_definition, release_of
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import Lease, acquire
from pipeline.aws.outcomes import outcome_of
from pipeline.aws.registry import image_exists
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.follower import Gate, ignore
from pipeline.deployment.live import LiveRevision, live_revision, serving_revision
from pipeline.deployment.place import Place, find_place, ledger_of, lock_place
from pipeline.deployment.settling import Interference, Settling
from pipeline.deployment.stopping import running_deployment, stop_running
from pipeline.deployment.strategy import note_on
from pipeline.deployment.switch import switch
from pipeline.errors import PipelineError, UsageError
from pipeline.results import GateResult, Outcome, Record, Reverted, RollbackPlan, RolledOut
from pipeline.waiting import Clock

COMMAND = "onnxship rollback"


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
    event_id = f"{clock.now():%Y%m%d-%H%M%S}-rollback"
    back = _Return(config, aws, clock, place, service, event_id, who, on_progress, on_gate, clock.monotonic())
    stopped = stop_running(aws, clock, place, interval_s=config.poll_interval_s, on_progress=on_progress)
    return back.from_stopped(stopped) if stopped and to is None else back.by_deployment(stopped, to, gates_for)


def plan_rollback(
    config: Config, aws: Aws, *, service: str, to: str | None = None, gates: tuple[str, ...] = ()
) -> RollbackPlan:
    """What `rollback` would do, `gates` being the names of those it would ask. Reads only.

    Raises UsageError when it could not be done.
    """
    place = find_place(config, aws, service)
    running = running_deployment(aws, place)
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
        note="" if is_live else note_on(config.services[service].rollout.strategy),
    )  # fmt: skip


@dataclass(frozen=True)
class _Return:
    """The way back, under the lock, with a record of its own."""

    config: Config
    aws: Aws
    clock: Clock
    place: Place
    service: str
    event_id: str
    who: Who
    on_progress: Callable[[str], None]
    on_gate: Callable[[GateResult], None]
    began_s: float

    def from_stopped(self, stopped: Deployment) -> Reverted:
        """Production is back already; the ledger hears of it if S3 answers at once."""
        live = live_revision(self.aws, self.place)
        note, preempted = self._write_down(stopped, live)
        return Reverted(
            event_id=self.event_id, how="stopped-deployment", serves=release_of(self.aws, live.task_definition_arn),
            replaced=_release_of(self.aws, stopped), task_definition_arn=live.task_definition_arn,
            image_digest=live.image_digest, deployment_arn=stopped.arn, gates=(), stages=(),
            duration_s=self._duration_s, preempted=preempted, ledger_note=note,
        )  # fmt: skip

    def by_deployment(
        self, stopped: Deployment | None, to: str | None, gates_for: Callable[[Record], Sequence[Gate]]
    ) -> Reverted:
        """A deployment of the release `to`, or of the one before what serves."""
        ledger = ledger_of(self.config, self.aws, self.service)
        if found := self._target(ledger, to):
            _check_usable(self.config, self.aws, found)
        lease = self._take_lock(self.aws)
        with lease.kept_alive():
            self._settle(ledger, lease, stopped)
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
            duration_s=self._duration_s, preempted=_preempted(lease), note=rolled_out.note if rolled_out else "",
        )  # fmt: skip

    @property
    def _duration_s(self) -> float:
        return round(self.clock.monotonic() - self.began_s, 3)

    def _take_lock(self, aws: Aws) -> Lease:
        place = lock_place(self.config, aws, self.service)
        lease = acquire(aws, place, holder=self.who.name, run_url=self.who.run_url, command=COMMAND, preempt=True)
        if lease.preempted:
            self.on_progress(f"the run of {_preempted(lease)} was pre-empted: its next change will be refused")
        return lease

    def _settle(self, ledger: Ledger, lease: Lease, stopped: Deployment | None) -> None:
        """What the pre-empted run began in its last moment is stopped too; then what has ended is written down."""
        latest = stop_running(
            self.aws, self.clock, self.place, interval_s=self.config.poll_interval_s, on_progress=self.on_progress
        )
        by = Interference(
            f"{self.who.name} stopped it with `{COMMAND}`", latest or stopped,
            lease.preempted.fence if lease.preempted else 0,
        )  # fmt: skip
        for line in Settling(ledger.aws, ledger, self.place, self.clock.now().isoformat(), by=by).settle():
            self.on_progress(line)

    def _write_down(self, stopped: Deployment, live: LiveRevision) -> tuple[str, str]:
        """What could not be written, if anything, and whose run was pre-empted. A failure here is only said."""
        aws, preempted = self.aws.briefly(), ""
        try:
            ledger = ledger_of(self.config, aws, self.service)
            lease = self._take_lock(aws)
            preempted = _preempted(lease)
            with lease.kept_alive():
                self._settle(ledger, lease, stopped)
                current = ledger.current()
                if current is None or current.task_definition_arn != live.task_definition_arn:
                    return "the pointer does not name what serves; the next `onnxship ship` puts that right", preempted
                reason = f"{self.who.name} stopped the deployment of {_release_of(self.aws, stopped)}"
                ledger.add_event(
                    self.event_id, reason, serves=current,
                    at=self.clock.now().isoformat(), deployment_arn=stopped.arn, who=self.who.name,
                    run_url=self.who.run_url,
                )  # fmt: skip
        except PipelineError as error:
            later = "the next ship, rollback or abort writes it down"
            return f"production is back, but it could not be recorded: {error.what} ({later})", preempted
        return "", preempted

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
            task_definition_arn=record.task_definition_arn, fence=lease.fence,
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
            with draft.interruptible(self.clock.now):
                rolled_out = switch(
                    self.config, self.aws, self.clock, gates, service=self.service,
                    task_definition_arn=record.task_definition_arn, image_digest=record.image_digest,
                    at_once=True,
                    tell=self.on_progress, intend=intend, on_gate=self.on_gate,
                )  # fmt: skip
        except PipelineError as error:
            if outcome := outcome_of(error):
                close(outcome, error.what)
            raise
        lease.confirm()
        draft.note("rollout", asdict(rolled_out))
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


def _preempted(lease: Lease) -> str:
    return lease.preempted.description if lease.preempted else ""


def _release_of(aws: Aws, deployment: Deployment) -> str:
    """The release that a deployment was to bring, or the deployment's ARN when its task definition does not say."""
    revision = describe_revision(aws, deployment.target_revision)
    return (release_of(aws, revision.task_definition) if revision else "") or deployment.arn
