"""What the commands that only look have seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.results.gates import BENEATH, JSON_ONLY
from pipeline.results.records import Outcome


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """A target of the load balancer: `initial`, `healthy`, `unhealthy`, `draining` or `unused`, and why."""

    target: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of CloudWatch Logs; `stream` ends with the task's id."""

    event_id: str
    timestamp_ms: int
    stream: str
    message: str


@dataclass(frozen=True, slots=True)
class RunningDeployment:
    """A deployment that is not over; `answer` is the command that ends it when it waits for somebody."""

    release_id: str
    status: str
    stage: str
    answer: str
    task_definition_arn: str = field(metadata=JSON_ONLY)
    arn: str = field(metadata=JSON_ONLY)


@dataclass(frozen=True, slots=True)
class TargetGroupState:
    """A target group of the service: its weights on the production and test rules, and its targets by state."""

    name: str
    production_weight: int
    test_weight: int
    targets: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """What runs now, by ECS and the load balancer, and whether the ledger agrees."""

    environment: str
    service: str
    production_url: str
    release_id: str
    task_definition_arn: str
    image_digest: str
    desired_count: int
    running_count: int
    pending_count: int
    target_groups: tuple[TargetGroupState, ...]
    deployments: tuple[RunningDeployment, ...]
    alarms: dict[str, str]
    ledger: str
    lock: str


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One release in a list. One that is open has no `finished_at`; `goes_on_with` is the command that takes it up."""

    release_id: str
    outcome: Outcome
    finished_at: str
    git_sha: str
    serves: str
    who: str
    event: str
    reason: str = field(metadata=BENEATH)
    goes_on_with: str = field(default="", metadata=BENEATH)


@dataclass(frozen=True, slots=True)
class History:
    """The open releases, then the latest that ended, newest first; `current` is the one that the pointer names."""

    environment: str
    service: str
    current: str
    releases: tuple[HistoryLine, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` looked at."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """All that `doctor` looked at."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)
