"""The service's latest releases: those still open, and how the others ended."""

from __future__ import annotations

from pipeline.aws.draft import Draft
from pipeline.aws.lock import LockPlace, read_lock
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.place import ledger_of
from pipeline.results import History, HistoryLine, LockState, Outcome, Record


def history(config: Config, aws: Aws, *, service: str, limit: int = 20) -> History:
    """The open ones, then those that ended, each newest first."""
    ledger = ledger_of(config, aws, service)
    lock = read_lock(aws, LockPlace(ledger.bucket, ledger.environment, service))
    current = ledger.current()
    return History(
        environment=config.environment_name,
        service=service,
        current=current.release_id if current else "",
        releases=(
            *(_open_line(draft, lock) for draft in ledger.open_drafts()),
            *map(_line, ledger.history(limit)),
        ),
    )


def _open_line(draft: Draft, lock: LockState) -> HistoryLine:
    """A release without an ending: whoever holds the lock is at it, or nobody is, and a command goes on with it."""
    content = draft.content
    if lock.held and content.get("fence") == lock.fence:
        outcome, reason, goes_on = Outcome.OPEN, f"runs, at: {draft.doing}", ""
    elif draft.interruption:
        stopped = f"stopped by {draft.interruption} at {content['interrupted']['at'][:19]}Z"
        outcome, reason, goes_on = Outcome.INTERRUPTED, f"{stopped}, at: {draft.doing}", draft.resume_command
    else:
        reason = f"no run is at it any more; last: {draft.doing}"
        outcome, goes_on = Outcome.ABANDONED, draft.resume_command
    return HistoryLine(
        release_id=draft.release_id,
        outcome=outcome,
        reason=reason,
        goes_on_with=goes_on,
        finished_at="",
        event=content["event"],
        serves=content.get("serves", ""),
        git_sha=content.get("git_sha", "")[:7],
        who=content.get("who", ""),
    )


def _line(record: Record) -> HistoryLine:
    return HistoryLine(
        release_id=record.release_id,
        event=record.event,
        outcome=record.outcome,
        finished_at=f"{record.finished_at[:19]}Z",
        git_sha=record.git_sha[:7],
        serves=record.serves,
        who=record.who,
        reason=record.reason,
    )
