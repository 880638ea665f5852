"""What stages found or did: frozen dataclasses with plain values, as they stand in records and reports.

Every result turns into JSON by `dataclasses.asdict`; enums are strings with AWS's or our own words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

JSON_ONLY = {"json_only": True}  # of a field that a table for people leaves out


class Verdict(StrEnum):
    """What a judge says. No data is never a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Outcome(StrEnum):
    """How a release ended."""

    LIVE = "live"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    NOTHING_TO_DO = "nothing-to-do"
    UNKNOWN = "unknown"
    ABORTED = "aborted"  # stopped by another run before it had deployed anything
    OPEN = "open"  # not over: its run goes on
    ABANDONED = "abandoned"  # without an ending: its run was interrupted


@dataclass(frozen=True, slots=True)
class Target:
    """A listener to send requests to: its base URL and the headers its rule asks for.

    `live_url` is the listener of the release that serves meanwhile; "" where there is none to compare with.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # one of them is the gate's secret
    live_url: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's verdict, the reason in words, and the numbers it rests on (units in their names)."""

    name: str
    verdict: Verdict
    reason: str
    numbers: dict[str, float | int | str] = field(default_factory=dict, metadata=JSON_ONLY)


@dataclass(frozen=True, slots=True)
class StackChange:
    """What happened to one CloudFormation stack: `created`, `updated`, `unchanged` or `deleted`."""

    stack_name: str
    action: str
    changes: tuple[str, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The stacks that exist once per account and environment."""

    stacks: tuple[StackChange, ...]
    repository_uri: str
    artifact_bucket: str


@dataclass(frozen=True, slots=True)
class Built:
    """An image in ECR. `image_digest` is the sha256 of its one manifest (linux/amd64); `gate_tag` names the gate's own
    image, "" when its requests come from this machine."""

    repository_uri: str
    tag: str
    image_digest: str
    context_digest: str
    git_sha: str
    target: str
    builder: str
    reused: bool
    gate_tag: str = ""

    @property
    def image(self) -> str:
        """The image by digest, as the task definition names it."""
        return f"{self.repository_uri}@{self.image_digest}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability that ECR reports."""

    id: str
    severity: str
    package: str
    fixed_in: str
    ignored_reason: str = ""


@dataclass(frozen=True, slots=True)
class Scanned:
    """ECR's findings for one image, and what the policy says of them."""

    image_digest: str
    status: str
    verdict: Verdict
    reason: str
    counts: dict[str, int]
    blocking: tuple[Finding, ...] = ()
    ignored: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output in the Open Inference Protocol's words; -1 is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """The model's metric on the labelled golden inputs, and the floor it was held to."""

    metric: str
    value: float
    at_least: float
    samples: int


@dataclass(frozen=True, slots=True)
class Published:
    """A model in S3, pinned: bucket, key, VersionId and sha256 of the manifest that pins all else."""

    bucket: str
    manifest_key: str
    manifest_version_id: str
    manifest_sha256: str
    model_sha256: str
    model_bytes: int
    ir_version: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quality: Quality | None
    reused: bool


@dataclass(frozen=True, slots=True)
class Deployed:
    """What CloudFormation did, stack by stack."""

    stacks: tuple[StackChange, ...]


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
class LoadTested:
    """What Locust measured, and the verdict. Requests and failures are all that the release answered; rate, percentiles
    and duration are the load's; `against_live` holds the numbers of the comparison with what serves."""

    verdict: Verdict
    reason: str
    url: str
    requests: int
    failures: int
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    duration_s: float
    statuses: dict[str, int] = field(default_factory=dict)
    against_live: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alarmed:
    """The cost alarms, and the e-mail subscriptions that still wait for their confirmation."""

    stacks: tuple[StackChange, ...]
    monthly_usd: float
    subscriptions: dict[str, str] = field(default_factory=dict)


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
class Signature:
    """What an ONNX file says of itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ir_version: int
    opset: int


@dataclass(frozen=True, slots=True)
class Initialised:
    """The files that `init` wrote, and what to type next."""

    config: str
    golden: str
    rows: int
    labelled: bool
    quality: Quality | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    next_commands: tuple[str, ...]


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
class RunningDeployment:
    """A deployment that is not over; `answer` is the command that ends it when it waits for somebody."""

    arn: str
    status: str
    stage: str
    task_definition_arn: str
    answer: str = ""


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
    """One release in a list; one that is open has no `finished_at`. The fields that matter most come first."""

    release_id: str
    outcome: Outcome
    reason: str
    finished_at: str
    event: str
    serves: str
    git_sha: str
    who: str


@dataclass(frozen=True, slots=True)
class History:
    """The open releases, then the latest that ended, newest first; `current` is the one that the pointer names."""

    environment: str
    service: str
    current: str
    releases: tuple[HistoryLine, ...]


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The stacks that were deleted, and what still costs money."""

    stacks: tuple[StackChange, ...]
    still_costs: tuple[str, ...]


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
class Aborted:
    """The deployment that was stopped, and whose lock was freed."""

    deployment_arn: str
    status: str
    lock_was_held_by: str
