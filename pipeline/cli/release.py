"""An open release: its stages run one after the other under the lock, and each result is noted before the next begins.

A stage in another process, or a run that continues an interrupted one, finds the earlier results in the draft.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.aws import ecr
from pipeline.aws.cloudformation import outputs
from pipeline.aws.draft import Draft
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import Lease
from pipeline.aws.models import PinnedModel
from pipeline.aws.outcomes import error_of, outcome_of
from pipeline.cli.caller import run_url, who
from pipeline.cli.gates import fetch_published, golden_gate, load_gate, published_of, refuse_unknown_domain
from pipeline.cli.holding import agree_with_ecs, held, is_deployed
from pipeline.cli.options import Run
from pipeline.cli.sameness import fingerprint, refuse_another
from pipeline.deployment.follower import Gate
from pipeline.deployment.place import find_place, ledger_of
from pipeline.deployment.stopping import wait_for_clean_up
from pipeline.deployment.strategy import note_on
from pipeline.errors import AwsError, PipelineError, UsageError
from pipeline.results import (
    Alarmed,
    Built,
    Deployed,
    GateResult,
    Outcome,
    Published,
    Quality,
    Record,
    RolledOut,
    Scanned,
    TaskDefinition,
)
from pipeline.stages import alarms as alarms_stage
from pipeline.stages import build as build_stage
from pipeline.stages import deploy as deploy_stage
from pipeline.stages import publish as publish_stage
from pipeline.stages import register as register_stage
from pipeline.stages import rollout as rollout_stage
from pipeline.stages import scan as scan_stage

T = TypeVar("T")
ANOTHER_WRITES_WITHIN_S = 20  # after its deployment has ended: a poll or two, the lock, the record
LOOK_S = 0.5


@dataclass
class Release:
    """The stages of one release."""

    run: Run
    ledger: Ledger
    draft: Draft
    lease: Lease

    @property
    def id(self) -> str:
        return self.draft.release_id

    def intend(self, what: str) -> None:
        """The fence and the intent, before each call that changes something."""
        self.lease.confirm()
        self.draft.intend(what, fence=self.lease.fence)

    def build(self, *, allow_dirty: bool) -> Built:
        self.intend("build")
        built = build_stage.build(**self._common(), allow_dirty=allow_dirty)
        refuse_another(self.draft, "image", built.image_digest)
        self.draft.note("build", asdict(built), git_sha=built.git_sha, image_digest=built.image_digest)
        return built

    def scan(self) -> Scanned:
        scanned = scan_stage.scan(**self._common(), image_digest=self.result("build", Built).image_digest)
        self.draft.note("scan", asdict(scanned))
        return scanned

    def publish(self) -> Published:
        self.intend("publish")
        live = self._live_record()
        published = publish_stage.publish(**self._common(), live_quality=_quality(live))
        refuse_another(self.draft, "model", published.manifest_sha256)
        self.draft.note("publish", asdict(published))
        return published

    def deploy_foundation(self) -> Deployed:
        self.intend("deploy network, cluster, runtime")
        deployed = deploy_stage.deploy_foundation(**self._common())
        self.draft.note("foundation", asdict(deployed))
        return deployed

    def alarms(self) -> Alarmed:
        self.intend("deploy cost alarms")
        alarmed = alarms_stage.alarms(self.run.config, self.run.aws, self.run.clock, on_progress=self.run.progress)
        self.draft.note("alarms", asdict(alarmed))
        return alarmed

    def register(self) -> TaskDefinition:
        self.intend("ecs:RegisterTaskDefinition")
        registered = register_stage.register(
            self.run.config,
            self.run.aws,
            service=self.run.service,
            release_id=self.id,
            built=self.result("build", Built),
            published=self.result("publish", Published),
            outputs=outputs(self.run.aws, self.run.config.stack_name("runtime", self.run.service)),
            earlier_arn=self.draft.content.get("task_definition_arn", ""),
        )
        self.draft.note("register", asdict(registered), task_definition_arn=registered.arn)
        return registered

    def put_into_production(self) -> RolledOut:
        """The service's stacks and the gated deployment: one and the same when the service is created."""
        definition = self.result("register", TaskDefinition)
        refuse_unknown_domain(self.run, self.id)
        rolled_out = self._roll_out(definition) if is_deployed(self.run) else self._create_service(definition)
        self.draft.note("rollout", asdict(rolled_out), deployment_arn=rolled_out.deployment_arn)
        return rolled_out

    def gates(self) -> list[Gate]:
        """Golden inputs, then Locust, on whatever target they are given. Production itself is not loaded."""
        golden = golden_gate(self.run, self.id, self._model())
        return [golden, load_gate(self.run, self.id, self._model())] if self.run.settings.rollout.is_gated else [golden]

    def finish(self, durations_s: dict[str, float]) -> Record:
        """The record of a release that is live. Raises Locked when another run has the word by now."""
        self.lease.confirm()
        built, published = self.result("build", Built), self.result("publish", Published)
        self.draft.note("fingerprint", {"sha256": fingerprint(self.run.config, self.run.service, built, published)})
        self.draft.note("durations_s", durations_s)
        note = note_on(self.run.settings.rollout.strategy)
        return self.close(Outcome.LIVE, f"the check after its start passed. {note}" if note else "every gate passed")

    def close(self, outcome: Outcome, reason: str, **facts: Any) -> Record:
        """Write the record; a release that is live also gets its image tag, which lifecycle rules keep."""
        now = self.run.clock.now().isoformat()
        record = self.ledger.close(self.draft, outcome, reason, finished_at=now, **facts)
        if outcome is Outcome.LIVE:
            self._tag_image(f"release-{self.run.service}-{self.id}")
        return record

    def _tag_image(self, tag: str) -> None:
        """Keep the image by name as well; the release is live and recorded, so a failure here is only said."""
        try:
            repository = outputs(self.run.aws, self.run.config.stack_name("registry"))["RepositoryName"]
            manifest = ecr.get_manifest(self.run.aws, repository, self.result("build", Built).image_digest)
            ecr.put_tag(self.run.aws, repository, manifest, tag)
        except AwsError as error:
            self.run.progress(f"WARNING: the image could not be tagged {tag}: {error.what}")

    def result(self, stage: str, kind: type[T]) -> T:
        """An earlier stage's result. Raises UsageError when that stage has not run for this release."""
        found = self.draft.content["results"].get(stage)
        if found is None:
            raise UsageError(
                f"Release `{self.id}` has no result of `{stage}` yet.",
                f"run `{self.draft.resume_command}`, which continues it",
            )
        return TypeAdapter(kind).validate_python(found)

    def _roll_out(self, definition: TaskDefinition) -> RolledOut:
        self.intend("deploy service, observability")
        update = rollout_stage.UpdateRollout(
            self.run.config,
            self.run.aws,
            self.run.clock,
            self._gates_of_live(),
            self.run.service,
            self.run.progress,
            self.intend,
        )
        deployed = deploy_stage.deploy_service(**self._common(), task_definition_arn=definition.arn, follow=update.step)
        self.draft.note("service", asdict(deployed))
        self._outlast_a_killed_run()
        return rollout_stage.rollout(
            self.run.config,
            self.run.aws,
            self.run.clock,
            self.gates(),
            service=self.run.service,
            release_id=self.id,
            task_definition_arn=definition.arn,
            image_digest=self.result("build", Built).image_digest,
            on_progress=self.run.progress,
            intend=self.intend,
            on_gate=self._note_gate,
            on_alarms=self._note_alarms,
        )

    def _outlast_a_killed_run(self) -> None:
        """Its bake may have ended since this one began, or be about to; then its release is live, and recorded so."""
        run, place = self.run, find_place(self.run.config, self.run.aws, self.run.service)
        wait_for_clean_up(
            run.aws, run.clock, place, interval_s=run.config.poll_interval_s, on_progress=run.progress
        )  # fmt: skip
        agree_with_ecs(run, self.ledger, self.id)

    def _create_service(self, definition: TaskDefinition) -> RolledOut:
        """The first release: CloudFormation creates the service, and its deployment is gated meanwhile."""
        self.intend("create service")
        strategy = self.run.settings.rollout.strategy
        self.run.progress(f"creating the service with release {self.id}, its first ({strategy}): {definition.arn}")
        first = rollout_stage.FirstRollout(
            self.run.config,
            self.run.aws,
            self.run.clock,
            self.gates(),
            self.run.service,
            self.id,
            definition.arn,
            self.result("build", Built).image_digest,
            self.run.progress,
            self.intend,
            self._note_gate,
        )
        try:
            deployed = deploy_stage.deploy_service(
                **self._common(), task_definition_arn=definition.arn, follow=lambda: _step(first)
            )
        except PipelineError:
            with contextlib.suppress(AwsError):  # S3 may be away, and this is about something else
                self.lease.confirm()  # whoever has the lock by now may have removed the service, and clears up
            if first.refused:
                return first.finish()
            first.abandon()
            raise
        except BaseException:
            first.abandon()
            raise
        self.draft.note("service", asdict(deployed))
        return first.finish()

    def _note_gate(self, gate: GateResult) -> None:
        earlier = self.draft.content["results"].get("gates", {})
        self.draft.note("gates", earlier | {gate.name: asdict(gate)})

    def _note_alarms(self, ringing: tuple[str, ...]) -> None:
        """Whatever becomes of the release: ECS ignored these."""
        if ringing:
            self.draft.note("alarms_in_alarm_before", {"names": ringing})

    def _gates_of_live(self) -> list[Gate]:
        """For a deployment of what serves already: its own golden inputs."""
        live = self._live_record()
        if live is None:
            return []
        model = fetch_published(self.run, published_of(live))
        return [golden_gate(self.run, live.release_id, model)]

    def _model(self) -> PinnedModel:
        return fetch_published(self.run, self.result("publish", Published))

    def _live_record(self) -> Record | None:
        current = self.ledger.current()
        return self.ledger.record(current.release_id) if current else None

    def _common(self) -> dict[str, Any]:
        """What every stage is given."""
        return {
            "config": self.run.config,
            "aws": self.run.aws,
            "clock": self.run.clock,
            "service": self.run.service,
            "on_progress": self.run.progress,
        }

    def ended(self, error: PipelineError) -> PipelineError:
        """What the run ends with, and its record. Where another run closes the release, that one is right.

        S3 may be away: then the error is told as it is, and the next run writes the record.
        """
        try:
            if standing := self.ledger.record(self.id) or (self._by_another() if error.is_elsewhere else None):
                return error_of(standing, error)
            if outcome := outcome_of(error):
                written = self.close(outcome, error.what, details=error.details)
                return error if written.reason == error.what else error_of(written, error)
        except AwsError as away:
            self.run.progress(f"WARNING: the release could not be recorded; the next run does it. {away.what}")
        return error

    def _by_another(self) -> Record | None:
        """The record by the run that stopped this one, which writes it within seconds; None when there is no such."""
        clock = self.run.clock
        deadline = clock.monotonic() + ANOTHER_WRITES_WITHIN_S
        self.run.progress("ECS was told to go back, and not by this run; looking who did")
        while clock.monotonic() < deadline:
            if record := self.ledger.record(self.id):
                return record
            clock.sleep(LOOK_S)
        return None


@contextmanager
def opened(run: Run, release_id: str, command: str, **facts: Any) -> Iterator[Release]:
    """The release `release_id`, new or continued, with the lock held; its record is written when a gate refused."""
    with held(run, command, release_id) as lease, begun(run, lease, release_id, **facts) as release:
        yield release


@contextmanager
def begun(run: Run, lease: Lease, release_id: str, **facts: Any) -> Iterator[Release]:
    """The release `release_id`, under the lock that this run holds."""
    ledger = ledger_of(run.config, run.aws, run.service)
    draft = ledger.open_draft(
        release_id, started_at=run.clock.now().isoformat(), who=who(), run_url=run_url(), fence=lease.fence, **facts
    )
    release = Release(run, ledger, draft, lease)
    try:
        with draft.interruptible(run.clock.now):
            yield release
    except PipelineError as error:
        ending = release.ended(error)
        raise ending from (None if ending is error else error)


def _step(first: rollout_stage.FirstRollout) -> None:
    first.step()


def _quality(record: Record | None) -> Quality | None:
    found = (record.results.get("publish") or {}).get("quality") if record else None
    return TypeAdapter(Quality).validate_python(found) if found else None
