"""Puts a release into production: a gated deployment by ECS, or the first one, while its stack is created."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.aws.cloudformation import Stack, delete_stack, describe_stack
from pipeline.aws.ecs import RUNNING_STATUSES, list_deployments
from pipeline.aws.session import Aws
from pipeline.config import Config, Rollout
from pipeline.deployment.follower import Follower, Gate, Wanted, ignore
from pipeline.deployment.live import live_revision
from pipeline.deployment.place import find_place, find_place_at_creation
from pipeline.deployment.strategy import note_on
from pipeline.deployment.switch import finish, follow, give_up, limit_s, switch, wanted
from pipeline.errors import AwsError, GateRefused, RolledBack
from pipeline.results import GateResult, RolledOut
from pipeline.stacks import Stacks
from pipeline.waiting import Clock

# CloudFormation waits 36 hours for a service that does not come up (2160 minutes, in the handlers of its schema), and
# nowhere is it promised that ECS ends a first deployment, which has nothing to go back to.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ecs-service.html
REFUSED_PATIENCE_S = 120
SESSION_MINUTES = 100  # of the two hours that a session on GitHub lasts by default; the rest is for what comes before
ALARMED_AFTER_MINUTES = 5  # two points of a minute each, and the metrics' own delay


def rollout(
    config: Config, aws: Aws, clock: Clock, gates: Sequence[Gate], *,
    service: str, release_id: str, task_definition_arn: str, image_digest: str,
    on_progress: Callable[[str], None] = ignore, intend: Callable[[str], None] = ignore,
    on_gate: Callable[[GateResult], None] = ignore, on_alarms: Callable[[tuple[str, ...]], None] = ignore,
) -> RolledOut:  # fmt: skip
    """Deploy a release over the one that serves; the gates decide on the test listener (ROLLING: on production).

    `intend` is called with the call's name before each call that changes something (the fence and the draft).
    Raises GateRefused (3), RolledBack (4), StateUnknown (5), or Locked (7) when another deployment runs.
    """
    settings = config.services[service].rollout
    on_progress(f"rolling out release {release_id} ({settings.strategy}): {task_definition_arn}")
    warn(settings, on_progress)
    warn_of_session(config, service, on_progress)
    return switch(
        config, aws, clock, gates,
        service=service, task_definition_arn=task_definition_arn, image_digest=image_digest,
        tell=on_progress, intend=intend, on_gate=on_gate, on_alarms=on_alarms,
    )  # fmt: skip


def warn(settings: Rollout, tell: Callable[[str], None]) -> None:
    """Say what the chosen rollout cannot do."""
    if note := note_on(settings.strategy):
        tell(f"WARNING: {note}")
    elif settings.bake_minutes < ALARMED_AFTER_MINUTES:
        tell(
            f"WARNING: rollout.bake_minutes is {settings.bake_minutes}; the rollback alarms need about "
            f"{ALARMED_AFTER_MINUTES} minutes of a bad release's traffic to go off"
        )


def warn_of_session(config: Config, service: str, tell: Callable[[str], None]) -> None:
    """Say when a rollout may outlast a session with AWS, whose end leaves it without anybody who follows it."""
    rollout, gate = config.services[service].rollout, config.services[service].gate
    parts = {
        "rollout.start_deadline_s": rollout.start_deadline_s / 60,
        "gate": (gate.load.duration_s + (gate.against_live.duration_s if gate.against_live else 0)) / 60,
        f"rollout.{rollout.strategy.lower()}": rollout.shift_minutes,
        "rollout.bake_minutes": rollout.bake_minutes if rollout.is_gated else 0,
    }
    minutes, longest = math.ceil(sum(parts.values())), max(parts, key=parts.__getitem__)
    if minutes > SESSION_MINUTES:
        tell(
            f"WARNING: start, gate, shift and bake may take {minutes} minutes, most of it {longest}; "
            "a session on GitHub ends after two hours, and nobody follows the rollout then, unless MaxSessionSeconds "
            f"of stack {config.stack_name('delivery')} and ONNXSHIP_SESSION_SECONDS are raised "
            "(docs/how-to/connect-github.md)"
        )


@dataclass
class FirstRollout:
    """The deployment that the creation of a service is, followed between CloudFormation's own polls.

    `step` at every poll while the stack is created; `finish` when CloudFormation has ended, well or not. A refused
    service that CloudFormation still waits for after two minutes is removed: `step` raises, and `finish` deletes the
    stack before it raises the reason.
    """

    config: Config
    aws: Aws
    clock: Clock
    gates: Sequence[Gate]
    service: str
    release_id: str
    task_definition_arn: str
    image_digest: str
    on_progress: Callable[[str], None] = ignore
    intend: Callable[[str], None] = ignore
    on_gate: Callable[[GateResult], None] = ignore
    _wanted: Wanted | None = field(default=None, init=False)
    _follower: Follower | None = field(default=None, init=False)
    _refused_s: float | None = field(default=None, init=False)

    @property
    def _settings(self) -> Rollout:
        return self.config.services[self.service].rollout

    @property
    def refused(self) -> bool:
        """Whether this run has turned the release down."""
        return self._follower is not None and self._follower.refusal is not None

    def step(self) -> bool:
        """Look once, act at most once; true when the deployment is over."""
        if self._wanted is None:
            if note := note_on(self._settings.strategy):
                self.on_progress(f"WARNING: {note}")
            warn_of_session(self.config, self.service, self.on_progress)
            self._wanted = wanted(self.config, self.service, self.task_definition_arn, self.image_digest)
        if self._follower is None:
            place = find_place_at_creation(self.config, self.aws, self.service)
            if place is None:
                return False
            self._follower = Follower(
                self.aws, self.clock, place, self._wanted, self.gates, self.on_progress, self.intend, self.on_gate
            )  # fmt: skip
        is_over = self._follower.step()
        self._lose_patience(self._follower)
        return is_over

    def abandon(self) -> None:
        """The run is interrupted: stop the deployment, and let CloudFormation remove what it was creating."""
        if self._follower is not None:
            give_up(self._follower)
            if self._follower.stays:
                return
        try:
            if stack := self._half_created():
                delete_stack(self.aws, stack.id)
                self.on_progress(f"{stack.name}: being deleted; nothing was serving before")
        except AwsError as error:
            self.on_progress(f"The half-created stack could not be deleted: {error.what}")

    def _lose_patience(self, follower: Follower) -> None:
        if follower.refusal is None:
            return
        now_s = self.clock.monotonic()
        self._refused_s = now_s if self._refused_s is None else self._refused_s
        if now_s - self._refused_s > REFUSED_PATIENCE_S and self._half_created():
            raise follower.refusal.error(follower.place, (), had_production=follower.had_production)

    def _half_created(self) -> Stack | None:
        stack = describe_stack(self.aws, self.config.stack_name("service", self.service))
        return stack if stack and stack.status == "CREATE_IN_PROGRESS" else None

    def _remove(self, *, is_up: bool) -> None:
        """Delete the stack of the refused service: one that CloudFormation still waits for, or one that is up."""
        stack = describe_stack(self.aws, self.config.stack_name("service", self.service))
        statuses = ("CREATE_IN_PROGRESS", "CREATE_COMPLETE") if is_up else ("CREATE_IN_PROGRESS",)
        if stack and stack.status in statuses:
            self.on_progress(f"{stack.name}: deleting it, because its first release was refused ({stack.status})")
            Stacks(self.aws, self.clock, self.config.poll_interval_s, self.on_progress).delete(stack.id)

    def finish(self) -> RolledOut:
        """The result of the first release, or the error that says why it does not serve."""
        if self._follower is None:
            self.step()
        if self._follower is None:
            raise GateRefused(
                f"Release {self.release_id} was never started: CloudFormation did not create its service.",
                "correct what CloudFormation's events above name, and run `onnxship ship` again",
            )
        if self.refused:
            self._remove(is_up=not self._settings.is_gated)
        follow(self._follower, self.config.poll_interval_s, limit_s(self._settings))
        try:
            return finish(self.config, self._follower, self._settings)
        except RolledBack:
            self._remove(is_up=True)
            raise


@dataclass
class UpdateRollout:
    """A deployment that a stack update starts by itself (other subnets, say): what serves already, started anew.

    `step` at every poll while the stack is updated; its hook is answered by gates for the release that is live.
    """

    config: Config
    aws: Aws
    clock: Clock
    gates: Sequence[Gate]
    service: str
    on_progress: Callable[[str], None] = ignore
    intend: Callable[[str], None] = ignore
    _follower: Follower | None = field(default=None, init=False)

    def step(self) -> None:
        """Look once, act at most once; nothing happens when the update starts no deployment."""
        if self._follower is None:
            place = find_place(self.config, self.aws, self.service)
            running = list_deployments(self.aws, place.cluster, place.service, RUNNING_STATUSES)
            if not running:
                return
            live = live_revision(self.aws, place)
            self.on_progress(f"the update starts a deployment of what serves: {live.task_definition_arn}")
            limits = wanted(self.config, self.service, live.task_definition_arn, live.image_digest)
            self._follower = Follower(
                self.aws, self.clock, place, limits, self.gates, self.on_progress, self.intend,
                deployment_arn=running[0][0],
            )  # fmt: skip
        self._follower.step()
