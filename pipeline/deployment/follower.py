"""Follows one service deployment of ours to its end, and answers its gate on the way.

Each `step` looks once and acts at most once, so that a caller which waits for something else too (CloudFormation
creating the service) can take turns with it. Only the deployment whose ARN and task definition are this release's own
is ever answered. The lifecycle stage is an open string: AWS has added stages without changing its model.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.aws.ecs import (
    ENDED_STATUSES,
    RUNNING_STATUSES,
    Deployment,
    Hook,
    StoppedTask,
    continue_deployment,
    describe_deployment,
    describe_revision,
    describe_service,
    list_deployments,
    stop_deployment,
)
from pipeline.aws.session import Aws
from pipeline.deployment.access import Caller, open_gate
from pipeline.deployment.diagnosis import failed_tasks, placement_failure, witnesses
from pipeline.deployment.endings import Refusal, conclude, gate_lines
from pipeline.deployment.place import Place
from pipeline.deployment.rolling import reach
from pipeline.deployment.spans import Spans
from pipeline.errors import AwsError, PipelineError, StateUnknown
from pipeline.results import GateResult, RolledOut, Target, Verdict
from pipeline.waiting import Clock
from pipeline.words import counted

Gate = Callable[[Target], GateResult]
GATE_STAGE = "POST_TEST_TRAFFIC_SHIFT"
SHIFT_STAGE = "PRODUCTION_TRAFFIC_SHIFT"
STAGES_BEFORE_PRODUCTION = (
    "", "RECONCILE_SERVICE", "PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", GATE_STAGE,
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
)  # fmt: skip
UNSEEN_LIMIT_S = 120  # until a new deployment is listed
VANISHED_AFTER_S = 15  # since one that was seen was seen last
MISSED_LOOKS = 5
STOP_WAIT_S = 60
TRANSIENT_CODES = ("", "ThrottlingException", "Throttling", "ServerException", "ServiceUnavailable", "InternalFailure")


def ignore(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must run when the deployment is over, and how long and how often its start may fail."""

    task_definition_arn: str
    image_digest: str
    start_deadline_s: float
    max_failed_tasks: int
    caller: Caller


@dataclass
class Follower:
    """One deployment, followed. `ending` is set when it is over: the result, or the error that says why not."""

    aws: Aws
    clock: Clock
    place: Place
    wanted: Wanted
    gates: Sequence[Gate]
    tell: Callable[[str], None] = ignore
    intend: Callable[[str], None] = ignore
    on_gate: Callable[[GateResult], None] = ignore
    deployment_arn: str = ""
    ending: RolledOut | PipelineError | None = None
    refusal: Refusal | None = None
    had_production: bool = False
    results: tuple[GateResult, ...] = ()
    foreign: frozenset[str] = frozenset()
    is_rolling: bool = False
    _weight: float = 0.0
    _answered: str = ""  # CONTINUE, or ROLLBACK however it was said
    _missed: int = 0
    _spans: Spans = field(default_factory=Spans)
    _began_s: float | None = None
    _seen_s: float | None = None

    def step(self) -> bool:
        """Look once, act at most once; true when the deployment is over."""
        if self._began_s is None:
            self._began_s = self.clock.monotonic()
        deployment = self._look()
        if deployment is None or self.ending is not None:
            return self.ending is not None
        self._observe(deployment)
        if deployment.status in ENDED_STATUSES:
            self._end(deployment)
        elif deployment.status not in RUNNING_STATUSES:
            raise StateUnknown(
                f"ECS gives deployment {deployment.arn} the status `{deployment.status}`, which is unknown here.",
                f"look at it: `onnxship status {self.place.options}`",
            )
        elif deployment.status in ("PENDING", "IN_PROGRESS") and self.refusal is None:
            self._act(deployment)
        return self.ending is not None

    @property
    def stays(self) -> bool:
        """Whether an interruption leaves the release where it is: production reaches it, and its gates have passed it.

        ROLLING reaches production before its gates have; nobody else would ask them.
        """
        is_unchecked = self.is_rolling and bool(self.refusal or (self.gates and not self.results))
        return self.had_production and not is_unchecked

    def abandon(self) -> None:
        """The run is interrupted: before production shifts, one call that rolls back; after it, ECS bakes on."""
        if self.ending is not None or not (self.deployment_arn or self._find()):
            return
        if self.stays:
            self.tell(
                f"Production has shifted: ECS bakes on by itself and its alarms still roll back. "
                f"See `onnxship status {self.place.options}`; go back with `onnxship rollback {self.place.options}`."
            )
            return
        if self._answered != "ROLLBACK":
            stop_deployment(self.aws, self.deployment_arn)
        never = "" if self.had_production else "; production never shifted"
        self.tell(f"Interrupted: deployment {self.deployment_arn} is being rolled back{never}.")
        deadline = self.clock.monotonic() + STOP_WAIT_S
        while self.clock.monotonic() < deadline:
            deployment = describe_deployment(self.aws, self.deployment_arn)
            if deployment is None or deployment.has_ended:
                return
            self.clock.sleep(1)

    def _look(self) -> Deployment | None:
        try:
            arn = self.deployment_arn or self._find()
            deployment = describe_deployment(self.aws, arn) if arn else None
        except AwsError as error:
            self._missed += 1
            if error.code not in TRANSIENT_CODES or self._missed >= MISSED_LOOKS:
                raise
            self.tell(f"{error.what} (looking again)")
            return None
        now_s = self.clock.monotonic()
        if deployment is not None:
            self._missed, self._seen_s = 0, now_s
        elif self._seen_s is not None and now_s - self._seen_s > VANISHED_AFTER_S:
            self._vanished(f"Deployment {arn} vanished.")
        elif self._seen_s is None and now_s - (self._began_s or 0.0) > UNSEEN_LIMIT_S:
            self._vanished(f"ECS started no deployment within {UNSEEN_LIMIT_S} s.")
        return deployment

    def _find(self) -> str:
        """Our own deployment among the service's: the newest that is not foreign and has our task definition."""
        for arn, _ in list_deployments(self.aws, self.place.cluster, self.place.service):
            if arn in self.foreign:
                continue
            deployment = describe_deployment(self.aws, arn)
            revision = describe_revision(self.aws, deployment.target_revision) if deployment else None
            if revision and revision.task_definition == self.wanted.task_definition_arn:
                self.deployment_arn = arn
                self.tell(f"deployment {arn.rsplit('/', 1)[-1]}")
                return arn
        return ""

    def _vanished(self, what: str) -> None:
        if self.refusal:  # its service was being created, and is removed again
            self.ending = self.refusal.error(self.place, self._explained(), had_production=self.had_production)
            return
        raise StateUnknown(what, f"look what runs: `onnxship status {self.place.options}`")

    def _observe(self, deployment: Deployment) -> None:
        self.is_rolling = deployment.strategy == "ROLLING"
        goes_forward = deployment.status in ("PENDING", "IN_PROGRESS")
        if goes_forward and deployment.stage != SHIFT_STAGE:
            self._tell_step(deployment)  # all of the shift may lie between two looks, and came before this stage
        if self._spans.observe(deployment.stage or deployment.status, self.clock):
            self.tell(f"{deployment.status}  {deployment.stage}".rstrip())
        # During a rollback the stages after the shift appear too; then only what was seen before counts.
        if not goes_forward:
            return
        self._tell_step(deployment)
        self.had_production = self.had_production or self._reaches_production(deployment)

    def _tell_step(self, deployment: Deployment) -> None:
        """Each step of the traffic, once. A first revision has all of it from its start."""
        if deployment.production_weight == self._weight or self.is_rolling or not deployment.source_revisions:
            return
        self._weight = deployment.production_weight
        self.tell(f"production: {self._weight:g} % of the requests go to the new release")

    def _reaches_production(self, deployment: Deployment) -> bool:
        if deployment.stage not in STAGES_BEFORE_PRODUCTION:
            return True
        if self.is_rolling:
            return reach(self.aws, self.place, self.wanted.task_definition_arn).some
        # A service's first revision may have all the weight from its start: there is no other to give it to.
        return deployment.production_weight > 0 and bool(deployment.source_revisions)

    def _act(self, deployment: Deployment) -> None:
        if self.is_rolling:
            self._act_rolling(deployment)
            return
        if self.had_production:
            return
        waiting = [h for h in deployment.hooks if (h.target_type, h.status) == ("PAUSE", "AWAITING_ACTION")]
        if waiting and deployment.stage == GATE_STAGE:
            self._answer(deployment, waiting[0])
        elif not self._answered:
            self._watch_start(deployment)

    def _act_rolling(self, deployment: Deployment) -> None:
        """No hook, no test listener: the start is watched to its end, then the gates ask production itself."""
        if self.results:
            return
        if not (deployment.has_replaced and reach(self.aws, self.place, self.wanted.task_definition_arn).only):
            self._watch_start(deployment)
            return
        self._refuse_another_image(deployment)
        if self.refusal is None:
            self.run_gates_on(Target(self.place.production_url))
        if self.refusal is not None:
            self._stop(deployment, self.refusal)

    def _answer(self, deployment: Deployment, hook: Hook) -> None:
        if self._answered:
            return  # ECS has the answer and has not acted on it yet
        self._refuse_another_image(deployment)
        if self.refusal is None:
            self._run_gates(deployment)
        action = "ROLLBACK" if self.refusal else "CONTINUE"
        self.intend(f"ecs:ContinueServiceDeployment {deployment.arn} {action}")
        try:
            continue_deployment(self.aws, deployment.arn, hook.hook_id, action)
        except AwsError:
            seen = describe_deployment(self.aws, self.deployment_arn)
            if _waits(seen, hook):
                raise
            # An alarm, a time-out or a person was faster, or it is our answer whose own answer was lost. Either way
            # the start is over: its deadline must not stop what the gate has let pass.
            self._answered = action
            self.tell(self._why_unanswered(seen))
            if self.refusal and not (seen and seen.triggered_alarms):
                # The gate may have asked what somebody was taking away from it: then that is the reason.
                self.refusal = replace(self.refusal, is_elsewhere=True)
            return
        self._answered = action
        self.had_production |= action == "CONTINUE"
        self.tell(f"gate answered: {action}")

    def _why_unanswered(self, deployment: Deployment | None) -> str:
        alarms = ", ".join(deployment.triggered_alarms) if deployment else ""
        if alarms and any(result.verdict is Verdict.FAIL for result in self.results):
            return f"ECS rolls back already: the gate's own requests, failed or slow, set off alarm {alarms}"
        return "ECS ended the wait before the gate's answer" + (f": alarm {alarms} went off" if alarms else "")

    def _refuse_another_image(self, deployment: Deployment) -> None:
        revision = describe_revision(self.aws, deployment.target_revision)
        digests = revision.image_digests if revision else ()
        if self.wanted.image_digest not in digests:
            found = ", ".join(digests) or "unknown"
            self.refusal = Refusal(f"the new tasks run image {found}, not {self.wanted.image_digest}")

    def _run_gates(self, deployment: Deployment) -> None:
        with open_gate(
            self.aws, self.clock, self.place, caller=self.wanted.caller, intend=self.intend
        ) as target:  # fmt: skip
            live_url = self.place.production_url if deployment.source_revisions else ""
            self.run_gates_on(replace(target, live_url=live_url))

    def run_gates_on(self, target: Target) -> None:
        """Run the gates in order until one does not pass; that one is the refusal."""
        for gate in self.gates:
            result = _run(gate, target)
            self.results += (result,)
            self.on_gate(result)
            self.tell(f"gate {result.name}: {result.verdict} - {result.reason}")
            if result.verdict is not Verdict.PASS:
                words = "refused" if result.verdict is Verdict.FAIL else "could not be judged"
                evidence = (*result.details, *gate_lines(self.results[:-1]))
                self.refusal = Refusal(f"gate `{result.name}` {words}: {result.reason}", evidence)
                return

    def _watch_start(self, deployment: Deployment) -> None:
        failed = failed_tasks(self.aws, self.place, self.wanted.task_definition_arn, deployment.created_at)
        if reason := self._why_not_starting(deployment, failed):
            seen = witnesses(self.aws, self.place, self.wanted.task_definition_arn, deployment.created_at)
            self._stop(deployment, Refusal(reason, tasks=seen))

    def _stop(self, deployment: Deployment, refusal: Refusal) -> None:
        self.refusal = refusal
        self.tell(f"stopping the deployment: {refusal.reason}")
        self.intend(f"ecs:StopServiceDeployment {deployment.arn} ROLLBACK")
        try:
            stop_deployment(self.aws, deployment.arn)
            self._answered = "ROLLBACK"
        except AwsError:
            seen = describe_deployment(self.aws, deployment.arn)
            if seen is not None and seen.has_ended:
                return  # it was over before it could be stopped: the next look says how
            if deployment.source_revisions:
                raise
            # A first deployment has nothing to go back to; whoever creates the service removes it.
            self.ending = refusal.error(self.place, self._explained(), had_production=self.had_production)

    def _why_not_starting(self, deployment: Deployment, failed: tuple[StoppedTask, ...]) -> str:
        limit = self.wanted.max_failed_tasks
        if len(failed) >= limit:
            return f"{counted(len(failed), 'task')} of the new revision failed (rollout.max_failed_tasks: {limit})"
        service = describe_service(self.aws, self.place.cluster, self.place.service)
        if unplaced := placement_failure(service, deployment.created_at):
            return f"a task could not be placed: {unplaced}"
        waited_s = self.clock.monotonic() - (self._began_s or 0.0)
        if waited_s >= self.wanted.start_deadline_s and not self.had_production:
            return f"not ready for the gate after {waited_s:.0f} s (rollout.start_deadline_s); stage {deployment.stage}"
        return ""

    def _end(self, deployment: Deployment) -> None:
        self.ending = conclude(
            self.aws, self.place, deployment,
            task_definition_arn=self.wanted.task_definition_arn, image_digest=self.wanted.image_digest,
            refusal=self.refusal, had_production=self.had_production, gates=self.results,
            stages=self._spans.close(self.clock), duration_s=self.clock.monotonic() - (self._began_s or 0.0),
        )  # fmt: skip

    def _explained(self) -> tuple[str, ...]:
        return self.refusal.explain(self.aws, self.place) if self.refusal else ()


def _waits(deployment: Deployment | None, hook: Hook) -> bool:
    waiting = [h.hook_id for h in deployment.hooks if h.status == "AWAITING_ACTION"] if deployment else []
    return hook.hook_id in waiting


def _run(gate: Gate, target: Target) -> GateResult:
    """A gate's own result; one that breaks off decided nothing, and that is never a pass."""
    try:
        return gate(target)
    except PipelineError as error:
        lines = (*error.details, f"Fix: {error.remedy}")
        return GateResult(getattr(gate, "__name__", "gate"), Verdict.INCONCLUSIVE, error.what, details=lines)
