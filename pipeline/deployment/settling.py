"""Ends in the ledger what has ended in ECS: runs that were killed, pre-empted or cut off from S3 wrote no record.

Call it under the lock. ECS's word counts: a deployment that was rolled back is judged by whether its gate had let it
pass. What ECS cannot tell is left as it is, and `history` says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipeline.aws.draft import Draft
from pipeline.aws.ecs import (
    DESCRIBED_AT_ONCE,
    Deployment,
    describe_deployments,
    describe_revisions,
    list_deployments,
)
from pipeline.aws.ledger import Ledger
from pipeline.aws.session import Aws
from pipeline.deployment.live import live_revision
from pipeline.deployment.place import Place
from pipeline.errors import StateUnknown
from pipeline.results import Outcome

SKEW = timedelta(minutes=5)  # between this machine's clock and ECS's


@dataclass(frozen=True, slots=True)
class Interference:
    """What this run did to others: why, which deployment it stopped, and the fence of the run whose lock it took."""

    cause: str = ""
    stopped: Deployment | None = None
    fence: int = 0

    def did_stop(self, deployment: Deployment) -> bool:
        return self.stopped is not None and self.stopped.arn == deployment.arn


def has_served(deployment: Deployment) -> bool:
    """Whether production may have reached a deployment that is over: its gate let it pass, or it had none."""
    passed = any((hook.target_type, hook.status) == ("PAUSE", "SUCCEEDED") for hook in deployment.hooks)
    return passed or deployment.strategy == "ROLLING" or deployment.production_weight > 0


def is_superseded(aws: Aws, place: Place, deployment: Deployment) -> bool:
    """Whether ECS stopped a deployment where it stood because somebody began a newer one, which clears up after it."""
    if deployment.status != "STOPPED":
        return False
    newest = list_deployments(aws, place.cluster, place.service)[:1]
    return bool(newest) and newest[0][0] != deployment.arn


@dataclass(frozen=True, slots=True)
class Settling:
    """One pass over the open drafts of a service; `resuming` is the release that this run goes on with itself."""

    aws: Aws
    ledger: Ledger
    place: Place | None
    now: str
    resuming: str = ""
    by: Interference = Interference()
    _listed: list[tuple[str, datetime | None]] = field(default_factory=list, init=False)
    _described: dict[str, tuple[Deployment | None, str]] = field(default_factory=dict, init=False)

    def settle(self) -> Iterator[str]:
        """Close what can be judged; a line for each record that was written."""
        if self.place is not None:
            yield from self._pointer(self.place)
        for draft in self.ledger.open_drafts():
            if draft.release_id != self.resuming:
                yield from self._close(draft)

    def _pointer(self, place: Place) -> Iterator[str]:
        live = live_revision(self.aws, place).task_definition_arn
        try:
            if live and (done := self.ledger.reconcile(live, now=self.now, resuming=self.resuming)):
                yield done
        except StateUnknown as error:
            yield error.what  # the drafts can be judged all the same

    def _close(self, draft: Draft) -> Iterator[str]:
        deployment = self._deployment_of(draft)
        if ending := self._ending(draft, deployment):
            outcome, reason = ending
            facts = {"deployment_arn": deployment.arn} if deployment else {}
            record = self.ledger.close(draft, outcome, reason, finished_at=self.now, **facts)
            yield f"release {record.release_id} was closed as {record.outcome}: {record.reason}"
        if deployment and ending and ending[0] is Outcome.ROLLED_BACK:
            yield from self._unrecorded_rollback(deployment)

    def _ending(self, draft: Draft, deployment: Deployment | None) -> tuple[Outcome, str] | None:
        if deployment is None:
            if self.by.fence > 0 and draft.content.get("fence") == self.by.fence:
                return Outcome.ABORTED, f"{self.by.cause} before anything was deployed"
            if draft.content["event"] == "rollback":  # the next one has an id of its own and goes on with nothing
                return Outcome.ABORTED, f"{draft.how_its_run_ended} before anything was deployed"
            return None
        if deployment.status == "SUCCESSFUL" and draft.content["event"] == "rollback" and self._is_live(draft):
            return Outcome.LIVE, f"ECS finished it; {draft.how_its_run_ended} before its record"
        if self.place and is_superseded(self.aws, self.place, deployment) and not has_served(deployment):
            return Outcome.REFUSED, "a newer deployment of the service took its place"
        if deployment.status != "ROLLBACK_SUCCESSFUL":
            return None
        is_ours = self.by.stopped if self.by.did_stop(deployment) else None
        outcome = Outcome.ROLLED_BACK if has_served(is_ours or deployment) else Outcome.REFUSED
        if is_ours:
            return outcome, self.by.cause
        why = f"{draft.how_its_run_ended} before its record; ECS rolled it back: {deployment.rollback_reason}"
        return outcome, why

    def _is_live(self, draft: Draft) -> bool:
        live = live_revision(self.aws, self.place).task_definition_arn if self.place else ""
        return bool(live == draft.content["task_definition_arn"])

    def _deployment_of(self, draft: Draft) -> Deployment | None:
        """The newest deployment of the draft's task definition since the draft was begun."""
        wanted = draft.content.get("task_definition_arn")
        if self.place is None or not wanted:
            return None
        if not self._listed:
            self._listed.extend(list_deployments(self.aws, self.place.cluster, self.place.service))
        for arn, created_at in self._listed:
            if created_at and _is_before(created_at, draft.content):
                return None
            deployment, task_definition = self._describe(arn)
            if task_definition == wanted:
                return deployment
        return None

    def _describe(self, arn: str) -> tuple[Deployment | None, str]:
        """A deployment and its task definition, asked once in a pass however many drafts are open.

        An old draft that nothing can be said of looks through all deployments since: many are asked for at once.
        """
        if arn not in self._described:
            arns = [listed for listed, _ in self._listed]
            first = arns.index(arn)
            batch = [one for one in arns[first : first + DESCRIBED_AT_ONCE] if one not in self._described]
            found = describe_deployments(self.aws, batch)
            targets = list(dict.fromkeys(one.target_revision for one in found.values() if one.target_revision))
            revisions = describe_revisions(self.aws, targets) if targets else {}
            for one in batch:
                deployment = found.get(one)
                revision = revisions.get(deployment.target_revision) if deployment else None
                self._described[one] = deployment, revision.task_definition if revision else ""
        return self._described[arn]

    def _unrecorded_rollback(self, deployment: Deployment) -> Iterator[str]:
        """The event of a rollback that could not write it down; alarms go back without anybody's command."""
        current = self.ledger.current()
        if current is None or deployment.triggered_alarms or self.by.did_stop(deployment):
            return
        if any(
            record.event == "rollback" and record.deployment_arn == deployment.arn for record in self.ledger.history()
        ):
            return
        at = deployment.rollback_started_at or deployment.created_at
        record = self.ledger.add_event(
            f"{at:%Y%m%d-%H%M%S}-rollback" if at else f"{deployment.arn.rsplit('/', 1)[-1]}-rollback",
            f"deployment {deployment.arn} was stopped, and that could not be written down then",
            serves=current, at=at.isoformat() if at else self.now, deployment_arn=deployment.arn,
        )  # fmt: skip
        yield f"the rollback to {current.release_id} was recorded late: {record.release_id}"


def _is_before(created_at: datetime, content: dict[str, Any]) -> bool:
    started_at = str(content.get("started_at", ""))
    return bool(started_at) and created_at < datetime.fromisoformat(started_at) - SKEW
