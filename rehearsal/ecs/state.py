"""What the rehearsal's ECS knows: services, revisions, deployments and tasks. Only the event loop writes here."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

ONGOING = ("PENDING", "IN_PROGRESS", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS")


def digits(length: int = 19) -> str:
    """A number as ECS names deployments and revisions with."""
    return str(secrets.randbelow(9 * 10 ** (length - 1)) + 10 ** (length - 1))


@dataclass(frozen=True)
class Slot:
    """Where a revision's tasks stand behind a load balancer: one of the two target groups of a pair."""

    container: str
    port: int
    target_group: str
    other_target_group: str | None = None
    production_rule: str | None = None
    test_rule: str | None = None


@dataclass
class Revision:
    """One immutable configuration of a service. `cap` bounds its tasks: None means the service's desired count."""

    arn: str
    deployment_id: str
    task_definition: Json
    spec: Json
    created_at: float
    slots: tuple[Slot, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    cap: int | None = 0
    failed_in_a_row: int = 0
    not_before: float = 0.0
    test_weight: float = 0.0
    production_weight: float = 0.0
    completed: bool = False
    failed: bool = False

    def wanted(self, desired_count: int) -> int:
        """How many tasks this revision should run."""
        return desired_count if self.cap is None else min(self.cap, desired_count)


@dataclass
class Container:
    """One container of a task."""

    arn: str
    definition: Json
    digest: str | None = None
    last_status: str = "PENDING"
    exit_code: int | None = None
    reason: str | None = None
    health: str = "UNKNOWN"

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def essential(self) -> bool:
        return bool(self.definition.get("essential", True))


@dataclass
class Task:
    """One task: made-up network interface, containers, and how it began and ended."""

    arn: str
    cluster_arn: str
    task_definition: Json
    containers: list[Container]
    created_at: float
    group: str
    launch_type: str = "FARGATE"
    started_by: str | None = None
    client_token: str | None = None
    overrides: Json = field(default_factory=dict)
    tags: list[Json] = field(default_factory=list)
    revision: Revision | None = None
    subnet: str | None = None
    zone: str | None = None
    ip: str | None = None
    interface: str = field(default_factory=lambda: f"eni-{secrets.token_hex(9)[:17]}")
    last_status: str = "PROVISIONING"
    desired_status: str = "RUNNING"
    target_health: str | None = None
    was_healthy: bool = False
    times: dict[str, float] = field(default_factory=dict)
    stop_code: str | None = None
    stopped_reason: str | None = None
    stop_asked: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return self.arn.rsplit("/", 1)[1]

    @property
    def live(self) -> bool:
        """Whether the scheduler counts on this task."""
        return self.desired_status == "RUNNING"

    def ask_to_stop(self, code: str, reason: str) -> None:
        """Begin the task's end, once; the first reason stays."""
        if self.live:
            self.desired_status, self.stop_code, self.stopped_reason = "STOPPED", code, reason
            self.stop_asked.set()


@dataclass
class Hook:
    """A PAUSE hook that a deployment waits, or waited, at."""

    id: str
    stage: str
    expires_at: float
    timeout_action: str
    status: str = "AWAITING_ACTION"


@dataclass(frozen=True)
class Interruption:
    """Why a deployment leaves its way forward: back to the source revision, or no further."""

    kind: Literal["ROLLBACK", "STOP", "FREEZE"]
    reason: str


@dataclass
class Deployment:
    """One service deployment. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html"""

    arn: str
    target: Revision
    config: Json
    created_at: float
    source: Revision | None = None
    status: str = "PENDING"
    status_reason: str | None = None
    stage: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    stopped_at: float | None = None
    updated_at: float = 0.0
    rollback_reason: str | None = None
    rollback_started_at: float | None = None
    hooks: list[Hook] = field(default_factory=list)
    alarms_status: str = "DISABLED"
    triggered_alarms: list[str] = field(default_factory=list)
    breaker_status: str = "DISABLED"
    failures: int = 0
    threshold: int = 0
    interruption: Interruption | None = None

    @property
    def strategy(self) -> str:
        return str(self.config.get("strategy") or "ROLLING")

    @property
    def ongoing(self) -> bool:
        return self.status in ONGOING


@dataclass
class Service:
    """One service: what was asked for (`spec`, as CreateService words it), and what is."""

    arn: str
    name: str
    cluster_arn: str
    spec: Json
    desired_count: int
    created_at: float
    status: str = "ACTIVE"
    revisions: list[Revision] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    current: Revision | None = None
    primary: Revision | None = None
    steady: bool = False
    looked_at: float = 0.0

    @property
    def cluster(self) -> str:
        return self.cluster_arn.rsplit("/", 1)[1]

    @property
    def config(self) -> Json:
        return dict(self.spec.get("deploymentConfiguration") or {})

    @property
    def ongoing(self) -> Deployment | None:
        """The deployment that runs, or else the one that waits to."""
        return next((deployment for deployment in self.deployments if deployment.ongoing), None)

    def deployment_to(self, revision: Revision) -> Deployment | None:
        """The ongoing deployment whose target is `revision`."""
        return next((one for one in self.deployments if one.ongoing and one.target is revision), None)

    def tasks_of(self, revision: Revision) -> list[Task]:
        """The revision's tasks that the scheduler counts on."""
        return [task for task in self.tasks if task.revision is revision and task.live]

    def remaining(self, revision: Revision) -> list[Task]:
        """The revision's tasks that have not stopped."""
        return [task for task in self.tasks if task.revision is revision and not task.over.is_set()]

    def healthy(self, revision: Revision) -> list[Task]:
        """The revision's tasks that run and, behind a load balancer, answer its health check."""
        return [task for task in self.tasks_of(revision) if is_healthy(task)]

    def active(self) -> list[Revision]:
        """The revisions that have, or should have, tasks."""
        return [r for r in self.revisions if r is self.primary or r.wanted(self.desired_count) or self.remaining(r)]


def is_healthy(task: Task) -> bool:
    """RUNNING; with a container health check HEALTHY; behind a load balancer healthy there, too.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/healthcheck.html
    """
    checked = [one for one in task.containers if one.definition.get("healthCheck") and one.essential]
    if task.last_status != "RUNNING" or any(one.health != "HEALTHY" for one in checked):
        return False
    behind = bool(task.revision and task.revision.slots)
    return task.target_health == "healthy" if behind else True
