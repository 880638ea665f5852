"""What stays of a release: its record, the pointer to the live one, and the lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a release ended."""

    LIVE = "live"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    NOTHING_TO_DO = "nothing-to-do"
    UNKNOWN = "unknown"
    ABORTED = "aborted"  # stopped by another run before it had deployed anything
    OPEN = "open"  # not over: its run goes on
    INTERRUPTED = "interrupted"  # without an ending: its run was stopped in order, by Ctrl-C or a signal
    ABANDONED = "abandoned"  # without an ending: its run vanished


@dataclass(frozen=True, slots=True)
class LockState:
    """Who holds the lock of one environment and service; times are S3's, ISO 8601."""

    environment: str
    service: str
    held: bool
    holder: str = ""
    run_url: str = ""
    command: str = ""
    fence: int = 0
    since: str = ""
    expires_at: str = ""

    @property
    def description(self) -> str:
        """The holder in words: who, with what, where to read on."""
        extras = [part for part in (f"`{self.command}`" if self.command else "", self.run_url) if part]
        return self.holder + (f" ({', '.join(extras)})" if extras else "")


@dataclass(frozen=True, slots=True)
class Record:
    """How one release ended. `event` is `ship` or `rollback`; a rollback names the release that it `serves`.

    `details` are the lines beneath the reason: gates, stopped tasks and the last lines they wrote.
    """

    release_id: str
    environment: str
    service: str
    event: str
    outcome: Outcome
    started_at: str
    finished_at: str = ""
    reason: str = ""
    details: tuple[str, ...] = ()
    who: str = ""
    run_url: str = ""
    git_sha: str = ""
    committed_at: str = ""
    image_digest: str = ""
    task_definition_arn: str = ""
    deployment_arn: str = ""
    previous_release_id: str = ""
    serves: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    format: str = "onnxship.release/1"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the ledger says is live, and the release event (`event_id`) that brought it there."""

    release_id: str
    event_id: str
    task_definition_arn: str
    image_digest: str
    git_sha: str
    committed_at: str
    moved_at: str
