"""`ship`, `rollback` and `abort`: what puts releases into production and takes them back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import click

from pipeline.aws.ledger import check_release_id, release_id_for
from pipeline.aws.lock import Lease
from pipeline.building import git
from pipeline.cli.caller import run_url, who
from pipeline.cli.gates import fetch_published, golden_gate, load_gate, published_of
from pipeline.cli.holding import held, is_deployed
from pipeline.cli.options import Run, confirm, dry_run_option, run_options, yes_option
from pipeline.cli.release import begun
from pipeline.cli.sameness import fingerprint, refuse_another
from pipeline.deployment.follower import Gate
from pipeline.deployment.live import live_revision
from pipeline.deployment.place import find_place, ledger_of
from pipeline.deployment.stopping import running_deployment
from pipeline.deployment.strategy import note_on
from pipeline.errors import ConfigError, GateRefused, UsageError
from pipeline.results import (
    Outcome,
    Plan,
    Record,
    RollbackPlan,
    RolledOut,
    Shipped,
)
from pipeline.stages import abort as abort_stage
from pipeline.stages import alarms as alarms_stage
from pipeline.stages import build as build_stage
from pipeline.stages import deploy as deploy_stage
from pipeline.stages import publish as publish_stage
from pipeline.stages import rollback as rollback_stage

T = TypeVar("T")


def add_to(cli: click.Group) -> None:
    for command in (ship, rollback, abort):
        cli.add_command(command)


@click.command()
@run_options
@click.option(
    "--release", "release_id", metavar="ID", help="The release's name; made from time and commit if left out."
)
@click.option("--allow-dirty", is_flag=True, help="Ship files that are not committed; refused in CI.")
@dry_run_option
@yes_option
def ship(run: Run, release_id: str | None, allow_dirty: bool, dry_run: bool, yes: bool) -> None:
    """Build, scan, publish, deploy, roll out behind the gate, and set the cost alarms.

    \b
    Example: onnxship ship
             onnxship ship --env production --release 2026-11-21
    """
    if release_id is not None:
        check_release_id(release_id)
    _refuse_open_edge(run)
    _refuse_dirty_in_ci(allow_dirty)
    if dry_run:
        run.show(_plan(run, release_id, allow_dirty))
        return
    shipped = _nothing_to_do(run, release_id, allow_dirty)
    if shipped is None:
        confirm(run, "Ship", yes)
        shipped = _under_lock(run, release_id, allow_dirty)
    run.show(shipped)


def _under_lock(run: Run, release_id: str | None, allow_dirty: bool) -> Shipped:
    """What an interrupted run left is finished first; it may be all that was to be done."""
    ledger = ledger_of(run.config, run.aws, run.service)
    ledger.refuse_older(*_commit(run))
    chosen, before = release_id or _new_id(run), ledger.current()
    with held(run, "onnxship ship", chosen) as lease:
        if ledger.current() != before:
            ledger.refuse_older(*_commit(run))
            if live := _nothing_to_do(run, release_id, allow_dirty):
                return live
        return _ship(run, lease, chosen, allow_dirty)


def _ship(run: Run, lease: Lease, release_id: str, allow_dirty: bool) -> Shipped:
    watch = Stopwatch(run)
    facts = {"committed_at": git.committed_at(run.config.directory), "allow_dirty": allow_dirty}
    with begun(run, lease, release_id, **facts) as release:
        watch.time("build", lambda: release.build(allow_dirty=allow_dirty))
        watch.time("scan", release.scan)
        watch.time("publish", release.publish)
        watch.time("foundation", release.deploy_foundation)
        watch.time("alarms", release.alarms)
        watch.time("register", release.register)
        rolled_out = watch.time("rollout", release.put_into_production)
        record = release.finish(watch.durations_s)
        return _shipped(run, record, Outcome.LIVE, watch, rolled_out)


def _commit(run: Run) -> tuple[str, str]:
    """The commit that would be shipped, and when it was made."""
    return git.identify(run.config.directory, []).sha, git.committed_at(run.config.directory)


def _new_id(run: Run) -> str:
    return release_id_for(run.clock.now(), _commit(run)[0])


def _shipped(run: Run, record: Record, outcome: Outcome, watch: Stopwatch, rolled_out: RolledOut | None) -> Shipped:
    return Shipped(
        release_id=record.release_id,
        outcome=outcome,
        environment=run.config.environment_name,
        service=run.service,
        git_sha=record.git_sha,
        image_digest=record.image_digest,
        model_sha256=published_of(record).model_sha256,
        task_definition_arn=record.task_definition_arn,
        production_url=find_place(run.config, run.aws, run.service).production_url,
        gates=rolled_out.gates if rolled_out else (),
        stages=rolled_out.stages if rolled_out else (),
        durations_s=watch.durations_s,
        duration_s=watch.total_s,
        note=rolled_out.note if rolled_out else "",
    )


def _nothing_to_do(run: Run, release_id: str | None, allow_dirty: bool) -> Shipped | None:
    """What is live already, when shipping would put the very same thing there; None when there is work.

    Reads only. Raises UsageError when `release_id` has ended and holds something else.
    """
    if not is_deployed(run):
        return None
    ledger = ledger_of(run.config, run.aws, run.service)
    current = ledger.current()
    record = ledger.record(current.release_id) if current else None
    ended = ledger.record(release_id) if release_id else None
    if record is None:
        return None
    place = find_place(run.config, run.aws, run.service)
    if running_deployment(run.aws, place):
        return None  # another release may be about to serve, or serve already
    if live_revision(run.aws, place).task_definition_arn != record.task_definition_arn:
        return None  # the pointer is to be put right first, under the lock
    is_same = _fingerprint(run, allow_dirty) == _recorded_fingerprint(record)
    if is_same and (ended is None or ended.release_id == record.release_id):
        run.progress(f"nothing to do: release {record.release_id} is live and holds the same")
        return _shipped(run, record, Outcome.NOTHING_TO_DO, Stopwatch(run), None)
    if ended is not None:
        raise UsageError(
            f"Release `{release_id}` has ended already ({ended.outcome} at {ended.finished_at}), and what would be "
            "shipped now is something else.",
            "leave `--release` out, or choose a new name; `onnxship history` lists the known ones",
        )
    return None


def _fingerprint(run: Run, allow_dirty: bool) -> str:
    """Of what would be shipped now; "" when its image or model is not in AWS yet."""
    common = {"config": run.config, "aws": run.aws, "clock": run.clock, "service": run.service}
    try:
        built = build_stage.build(**common, allow_dirty=allow_dirty, dry_run=True)  # type: ignore[arg-type]
        if not built.image_digest:
            return ""
        published = publish_stage.publish(**common, dry_run=True)  # type: ignore[arg-type]
    except GateRefused:
        return ""  # it is something else, and the real run refuses it under the lock and with a record
    return fingerprint(run.config, run.service, built, published) if published.manifest_sha256 else ""


def _recorded_fingerprint(record: Record) -> str:
    return str((record.results.get("fingerprint") or {}).get("sha256", "unknown"))


def _plan(run: Run, release_id: str | None, allow_dirty: bool) -> Plan:
    """What `ship` would do, stage by stage; nothing is changed. Raises what `ship` itself would raise."""
    live = _nothing_to_do(run, release_id, allow_dirty)
    ledger = ledger_of(run.config, run.aws, run.service)
    if live is None:
        ledger.refuse_older(*_commit(run))
        if release_id:
            ledger.refuse_ended(release_id)
    common = {"config": run.config, "aws": run.aws, "clock": run.clock, "on_progress": run.progress, "dry_run": True}
    built = build_stage.build(**common, service=run.service, allow_dirty=allow_dirty)  # type: ignore[arg-type]
    published = publish_stage.publish(**common, service=run.service)  # type: ignore[arg-type]
    if live is None and release_id and (begun_before := ledger.draft(release_id)):
        refuse_another(begun_before, "image", built.image_digest)
        refuse_another(begun_before, "model", published.manifest_sha256)
    foundation = deploy_stage.deploy_foundation(**common, service=run.service)  # type: ignore[arg-type]
    alarmed = alarms_stage.alarms(**common)  # type: ignore[arg-type]
    service = deploy_stage.deploy_service(**common, service=run.service, task_definition_arn="")  # type: ignore[arg-type]
    return Plan(
        release_id=live.release_id if live else release_id or _new_id(run),
        nothing_to_do=live is not None,
        image=built.tag,
        image_is_there=built.reused,
        model_sha256=published.model_sha256,
        model_is_there=published.reused,
        quality=published.quality,
        gates=() if live else _gates_of(run),
        bake_minutes=0 if live else run.settings.rollout.bake_minutes,
        stacks=(*foundation.stacks, *alarmed.stacks, *service.stacks),
        strategy="" if live else run.settings.rollout.strategy,
        note="" if live else note_on(run.settings.rollout.strategy),
    )


def _gates_of(run: Run) -> tuple[str, ...]:
    return ("golden", "load") if run.settings.rollout.is_gated else ("golden",)


@click.command()
@run_options
@click.argument("release", required=False)
@click.option("--full-gate", is_flag=True, help="Load-test the release again; the golden inputs always judge it.")
@dry_run_option
@yes_option
def rollback(run: Run, release: str | None, full_gate: bool, dry_run: bool, yes: bool) -> None:
    """Go back: to the release before this one, or to RELEASE by name.

    A deployment that runs or bakes is stopped first. A running ship is pre-empted.

    \b
    Example: onnxship rollback
             onnxship rollback v1 --yes
    """
    if dry_run:
        run.show(_rollback_plan(run, release, ("golden", "load") if full_gate else ("golden",)))
        return
    confirm(run, f"Roll back to {release or 'the previous release'}", yes)

    def gates_for(record: Record) -> list[Gate]:
        model = fetch_published(run, published_of(record))
        serves = record.serves or record.release_id
        gates = [golden_gate(run, serves, model)]
        # What serves is what one wants to get away from: it is no measure.
        return [*gates, load_gate(run, serves, model, against_live=False)] if full_gate else gates

    reverted = rollback_stage.rollback(
        run.config,
        run.aws,
        run.clock,
        gates_for,
        service=run.service,
        who=rollback_stage.Who(who(), run_url()),
        to=release,
        on_progress=run.progress,
    )
    run.show(reverted)


def _rollback_plan(run: Run, release: str | None, gates: tuple[str, ...]) -> RollbackPlan:
    """Raises UsageError where the gates could not be asked: the record must say which model the release published."""
    plan = rollback_stage.plan_rollback(run.config, run.aws, service=run.service, to=release, gates=gates)
    if plan.gates:
        published_of(ledger_of(run.config, run.aws, run.service).known(plan.to_release))
    return plan


@click.command()
@run_options
@dry_run_option
@yes_option
def abort(run: Run, dry_run: bool, yes: bool) -> None:
    """Break off the run that is under way: the old release serves alone again, and the lock is free.

    A service that is just being created is removed. Where nothing runs, nothing happens.

    \b
    Example: onnxship abort --yes
    """
    if dry_run:
        run.show(abort_stage.plan_abort(run.config, run.aws, service=run.service))
        return
    confirm(run, "Abort the run that is under way", yes)
    run.show(
        abort_stage.abort(
            run.config,
            run.aws,
            run.clock,
            service=run.service,
            who=who(),
            run_url=run_url(),
            on_progress=run.progress,
        )
    )


@dataclass
class Stopwatch:
    """Seconds by stage, for the record and the report."""

    run: Run
    durations_s: dict[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        return self.run.elapsed_s

    def time(self, stage: str, work: Callable[[], T]) -> T:
        began_s = self.run.elapsed_s
        self.run.progress(f"{stage} ...")
        result = work()
        self.durations_s[stage] = round(self.run.elapsed_s - began_s, 2)
        return result


def _refuse_open_edge(run: Run) -> None:
    if not run.config.edge.ingress_cidrs:
        raise ConfigError(
            f"{run.config.path}: edge.ingress_cidrs is empty: nobody could reach the service.",
            "say who may, for example `ingress_cidrs: [203.0.113.0/24]`, or [0.0.0.0/0] for everybody",
        )


def _refuse_dirty_in_ci(allow_dirty: bool) -> None:
    if allow_dirty and os.environ.get("CI") == "true":
        raise UsageError("`--allow-dirty` is refused in CI: the release could not be found again.", "commit first")
