"""The service's latest releases, however they ended."""

from __future__ import annotations

from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.place import ledger_of
from pipeline.results import History, HistoryLine, Record


def history(config: Config, aws: Aws, *, service: str, limit: int = 20) -> History:
    """Newest first."""
    ledger = ledger_of(config, aws, service)
    current = ledger.current()
    return History(
        environment=config.environment_name,
        service=service,
        current=current.release_id if current else "",
        releases=tuple(_line(record) for record in ledger.history(limit)),
    )


def _line(record: Record) -> HistoryLine:
    return HistoryLine(
        release_id=record.release_id,
        event=record.event,
        outcome=record.outcome,
        finished_at=record.finished_at,
        git_sha=record.git_sha[:7],
        serves=record.serves,
        who=record.who,
        reason=record.reason,
    )
