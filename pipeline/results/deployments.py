"""What ECS was asked for, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.results.gates import GateResult, Quality
from pipeline.results.records import Outcome
from pipeline.results.stacks import StackChange


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A registered revision."""

    arn: str
    family: str
    revision: int


@dataclass(frozen=True, slots=True)
class StageSpan:
    """A lifecycle stage of an ECS deployment, in ISO 8601 times (UTC) as they were observed."""

    stage: str
    started_at: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class RolledOut:
    """A finished ECS service deployment."""

    service_arn: str
    deployment_arn: str
    task_definition_arn: str
    image_digest: str
    status: str
    gates: tuple[GateResult, ...]
    stages: tuple[StageSpan, ...]
    production_url: str
    duration_s: float
    alarms_in_alarm_before: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A release that was brought to production, or was there already."""

    release_id: str
    outcome: Outcome
    environment: str
    service: str
    git_sha: str
    image_digest: str
    model_sha256: str
    task_definition_arn: str
    production_url: str
    gates: tuple[GateResult, ...]
    stages: tuple[StageSpan, ...]
    durations_s: dict[str, float]
    duration_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `ship` would do: the image and model it needs, the stacks it would change, and how it would roll out.

    With `nothing_to_do` the release `release_id` serves already and holds the very same.
    """

    release_id: str
    nothing_to_do: bool
    image: str
    image_is_there: bool
    model_sha256: str
    model_is_there: bool
    quality: Quality | None
    gates: tuple[str, ...]
    bake_minutes: int
    stacks: tuple[StackChange, ...]
    strategy: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reverted:
    """A rollback. `how` is `stopped-deployment`, `deployed` or `already-live`; release `serves` is live now."""

    event_id: str
    how: str
    serves: str
    replaced: str
    task_definition_arn: str
    image_digest: str
    deployment_arn: str
    gates: tuple[GateResult, ...]
    stages: tuple[StageSpan, ...]
    duration_s: float
    preempted: str = ""
    ledger_note: str = ""
    git_sha: str = ""
    model_sha256: str = ""
    outcome: Outcome = Outcome.LIVE
    note: str = ""


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """What `rollback` would do, and the gates that would judge `to_release` before it serves."""

    from_release: str
    to_release: str
    how: str
    task_definition_arn: str
    image_digest: str
    image_is_there: bool
    model_sha256: str
    gates: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The deployment that was stopped, and whose lock was freed."""

    deployment_arn: str
    status: str
    lock_was_held_by: str
