"""How a service deployment goes: the stages of the blue/green family and of a rolling update, and the way back.

Stages: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html
Statuses: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html
A deployment only sets the revisions' caps and the rules' weights; the scheduler starts and stops tasks accordingly.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from rehearsal.ecs.guards import Interrupted, breaker_threshold, raise_when_tripped, starts_alarmed, watch_alarms
from rehearsal.ecs.hooks import await_pause_hooks, has_hooks
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Deployment, Interruption, Revision, Service
from rehearsal.ecs.world import NetworkProblem, World

TICK_S = 0.1
ALARMS_EVERY_S = 1.0
PATIENCE_WITH_BLUE_S = 60.0
NO_CANDIDATE = "No rollback candidate was found to run the rollback."
BAD_NETWORK = "Service deployment rolled back because of invalid networking configuration"


class Rollout:
    """Conducts one service deployment from PENDING to its end."""

    def __init__(self, service: Service, deployment: Deployment, world: World, questions: OpenQuestions) -> None:
        self.service = service
        self.deployment = deployment
        self.world = world
        self.questions = questions
        self._checked_alarms_at = 0.0

    # --- the way forward

    async def run(self) -> None:
        """Bring the target revision into service, or everything back to where it was."""
        try:
            try:
                await self._forward()
            except NetworkProblem as problem:
                raise Interrupted(Interruption("ROLLBACK", f"{BAD_NETWORK}{problem}")) from problem
        except Interrupted as interrupted:
            await self._leave(interrupted.interruption)
        else:
            self._succeed()

    async def _forward(self) -> None:
        deployment, service, clock = self.deployment, self.service, self.world.clock
        deployment.source = service.current
        self._check_interruption()
        deployment.started_at = clock.time()
        self._status("IN_PROGRESS")
        await self._arm_guards()
        await self._reconcile()
        await self.world.place(service, deployment.target, deployment.source)
        await self._enter("PRE_SCALE_UP")
        await (self._rolling() if deployment.strategy == "ROLLING" else self._blue_green())

    async def _blue_green(self) -> None:
        deployment = self.deployment
        await self._enter("SCALE_UP", self._scale_up)
        await self._enter("POST_SCALE_UP")
        await self._enter("TEST_TRAFFIC_SHIFT", self._shift_test)
        await self._enter("POST_TEST_TRAFFIC_SHIFT")
        await self._shift_production()
        await self._enter("POST_PRODUCTION_TRAFFIC_SHIFT")
        await self._enter("BAKE_TIME", self._bake(deployment.config.get("bakeTimeInMinutes") or 0))
        self._disarm_guards()
        await self._enter("CLEAN_UP", self._clean_up)

    async def _rolling(self) -> None:
        deployment = self.deployment
        await self._enter("SCALE_UP", lambda: self._replace(deployment.source, deployment.target))
        await self._enter("POST_SCALE_UP")
        minutes = float(deployment.config.get("bakeTimeInMinutes") or 0)
        if deployment.alarms_status == "MONITORING":
            minutes = minutes or self.questions.rolling_alarm_bake_minutes
        if minutes:
            await self._enter("BAKE_TIME", self._bake(minutes))
        self._disarm_guards()

    async def _enter(self, stage: str, work: Callable[[], Awaitable[None]] | None = None) -> None:
        """Be at a stage: its hooks first, then its work."""
        self.deployment.stage = stage
        self.deployment.updated_at = self.world.clock.time()
        if self._hooks_apply():
            await await_pause_hooks(self.deployment, stage, self.world.clock, self.wait_until)
        if work:
            await work()

    def _hooks_apply(self) -> bool:
        return self.deployment.source is not None or self.questions.hooks_at_creation

    async def _reconcile(self) -> None:
        """With more than one revision active (a deployment was superseded or aborted) only the completed one stays."""
        source = self.deployment.source
        leftovers = [r for r in self.service.active() if r is not source and r is not self.deployment.target]
        if not leftovers:
            return
        await self._enter("RECONCILE_SERVICE")
        if source and any(r.production_weight or r.test_weight for r in leftovers):
            await self._return_traffic(source, leftovers)
        for revision in leftovers:
            revision.cap = 0
        await self.wait_until(lambda: not any(self.service.remaining(r) for r in leftovers))

    async def _scale_up(self) -> None:
        self.deployment.target.cap = None
        await self.wait_until(self._target_is_healthy)

    def _target_is_healthy(self) -> bool:
        """All of green, not most of it: a weight may never reach a target that does not answer."""
        service, target = self.service, self.deployment.target
        healthy = len(service.healthy(target))
        return healthy >= service.desired_count and healthy == len(service.tasks_of(target))

    async def _shift_test(self) -> None:
        await self.wait_until(self._target_is_healthy)
        await self._weigh("test_rule", 100)
        self.deployment.target.test_weight = 100.0
        if self.deployment.source:
            self.deployment.source.test_weight = 0.0

    async def _shift_production(self) -> None:
        """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/canary-deployment.html, linear-deployment.html"""
        steps = traffic_steps(self.deployment)
        for percent, bake_minutes in steps:
            if has_hooks(self.deployment, "PRE_PRODUCTION_TRAFFIC_SHIFT"):
                await self._enter("PRE_PRODUCTION_TRAFFIC_SHIFT")
            await self._enter("PRODUCTION_TRAFFIC_SHIFT")
            await self.wait_until(self._target_is_healthy)
            await self._weigh("production_rule", percent)
            self.deployment.target.production_weight = percent
            if self.deployment.source:
                self.deployment.source.production_weight = 100.0 - percent
            await self._bake(bake_minutes)()

    async def _weigh(self, rule_of_slot: str, percent: float) -> None:
        for slot in self.deployment.target.slots:
            rule = getattr(slot, rule_of_slot)
            if rule and slot.other_target_group:
                await self.world.shift(rule, {slot.target_group: percent, slot.other_target_group: 100.0 - percent})

    def _bake(self, aws_minutes: float) -> Callable[[], Awaitable[None]]:
        async def bake() -> None:
            end = self.world.clock.time() + self.world.clock.minutes(float(aws_minutes))
            await self.wait_until(lambda: self.world.clock.time() >= end)

        return bake

    async def _clean_up(self) -> None:
        source = self.deployment.source
        if source:
            source.cap = 0
            await self.wait_until(lambda: not self.service.remaining(source))

    async def _replace(self, old: Revision | None, new: Revision, heedful: bool = True) -> None:
        """Rolling update within minimumHealthyPercent and maximumPercent.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
        """
        if old is None:
            new.cap = None
        await self.wait_until(lambda: self._step_replacement(old, new), heedful)
        new.cap = None

    def _step_replacement(self, old: Revision | None, new: Revision) -> bool:
        """Set both caps for the moment; true when nothing is left to replace."""
        service, config = self.service, self.deployment.config
        desired, healthy = service.desired_count, len(service.healthy(new))
        if old is not None:
            at_most = math.floor(desired * config.get("maximumPercent", 200) / 100)
            at_least = math.ceil(desired * config.get("minimumHealthyPercent", 100) / 100)
            new.cap = max(0, at_most - len(service.tasks_of(old)))
            old.cap = max(0, at_least - healthy)
        return healthy >= desired and not (old and service.remaining(old))

    # --- waiting

    async def wait_until(self, happened: Callable[[], bool], heedful: bool = True, within_s: float = math.inf) -> bool:
        """Wait for something; unless `heedful` is off, an interruption, alarm or tripped breaker ends the wait."""
        clock = self.world.clock
        end = clock.time() + within_s
        while True:
            if heedful:
                await self._heed()
            if happened():
                return True
            if clock.time() >= end:
                return False
            await clock.sleep(TICK_S)

    async def _heed(self) -> None:
        now = self.world.clock.time()
        if now - self._checked_alarms_at >= ALARMS_EVERY_S:
            self._checked_alarms_at = now
            await watch_alarms(self.deployment, self.world)
        raise_when_tripped(self.deployment)
        self._check_interruption()  # last, with no await before the caller acts: what was asked for is never missed

    def _check_interruption(self) -> None:
        if self.deployment.interruption:
            raise Interrupted(self.deployment.interruption)

    async def _arm_guards(self) -> None:
        deployment = self.deployment
        breaker = deployment.config.get("deploymentCircuitBreaker") or {}
        covered = deployment.strategy == "ROLLING" or self.questions.breaker_under_blue_green
        if breaker.get("enable") and covered:
            deployment.breaker_status = "MONITORING"
        deployment.threshold = breaker_threshold(breaker, self.service.desired_count)
        await starts_alarmed(deployment, self.world, self.questions)

    def _disarm_guards(self) -> None:
        deployment = self.deployment
        if deployment.breaker_status == "MONITORING":
            deployment.breaker_status = "MONITORING_COMPLETE"
        if deployment.alarms_status == "MONITORING":
            deployment.alarms_status = "MONITORING_COMPLETE"

    # --- ends

    def _succeed(self) -> None:
        service, deployment = self.service, self.deployment
        service.current = deployment.target
        deployment.target.completed = True
        deployment.target.production_weight = 100.0
        if deployment.source:
            deployment.source.production_weight = 0.0
        self._finish("SUCCESSFUL", None)
        self.world.event(service, f"(deployment {deployment.target.deployment_id}) deployment completed.")

    async def _leave(self, interruption: Interruption) -> None:
        deployment = self.deployment
        for hook in deployment.hooks:
            hook.status = "FAILED" if hook.status == "AWAITING_ACTION" else hook.status
        if interruption.kind != "ROLLBACK":
            await self._stop(interruption)
            return
        self.world.event(
            self.service,
            f"(deployment {deployment.target.deployment_id}) deployment failed: {interruption.reason}",
        )
        deployment.target.failed = True
        deployment.rollback_reason = interruption.reason
        deployment.rollback_started_at = self.world.clock.time()
        self._status("ROLLBACK_IN_PROGRESS", interruption.reason)
        await (self._go_back(deployment.source) if deployment.source else self._give_up())

    async def _stop(self, interruption: Interruption) -> None:
        """STOPPED where it stands. FREEZE (a breaker or alarm without rollback) starts no new tasks."""
        self._status("STOP_REQUESTED", interruption.reason)
        target = self.deployment.target
        if interruption.kind == "FREEZE":
            target.failed = True
            target.cap = len(self.service.tasks_of(target))
        self._finish("STOPPED", interruption.reason)

    async def _go_back(self, source: Revision) -> None:
        deployment = self.deployment
        if self.service.primary is deployment.target:
            self.service.primary = source
            self.service.spec = {**self.service.spec, **source.spec}
        if deployment.strategy == "ROLLING":
            await self._replace(deployment.target, source, heedful=False)
        else:
            await self._return_traffic(source, [deployment.target])
        deployment.target.cap = 0
        await self.wait_until(lambda: not self.service.remaining(deployment.target), heedful=False)
        self._finish("ROLLBACK_SUCCESSFUL", deployment.rollback_reason)

    async def _return_traffic(self, source: Revision, others: list[Revision]) -> None:
        """All weights back to `source`, which must answer first when production is not its already."""
        source.cap = None
        if source.production_weight < 100:
            await self._await_blue(source)
        for slot in (slot for other in others for slot in other.slots if slot.other_target_group):
            for rule in self._rules_to_return(slot.production_rule, slot.test_rule):
                await self.world.shift(rule, {str(slot.other_target_group): 100.0, slot.target_group: 0.0})
        source.production_weight = source.test_weight = 100.0
        for other in others:
            other.production_weight = other.test_weight = 0.0

    def _rules_to_return(self, production: str | None, test: str | None) -> list[str]:
        rules = [production, test if self.questions.test_rule_returns_on_rollback else None]
        return [rule for rule in rules if rule]

    async def _await_blue(self, source: Revision) -> None:
        """All of blue, or after a while whatever of it answers: going back must not hang on one bad task."""
        service = self.service
        enough = lambda: len(service.healthy(source)) >= service.desired_count  # noqa: E731
        if not await self.wait_until(enough, heedful=False, within_s=PATIENCE_WITH_BLUE_S):
            await self.wait_until(lambda: bool(service.healthy(source)), heedful=False)

    async def _give_up(self) -> None:
        """A service's first deployment has nothing to go back to."""
        target, questions = self.deployment.target, self.questions
        keep = len(self.service.tasks_of(target)) if questions.failed_first_deployment_keeps_tasks else 0
        target.cap = keep
        if not keep:
            await self.wait_until(lambda: not self.service.remaining(target), heedful=False)
        self._finish(questions.failed_first_deployment, NO_CANDIDATE)

    def _finish(self, status: str, reason: str | None) -> None:
        deployment, now = self.deployment, self.world.clock.time()
        deployment.finished_at = now
        if status == "STOPPED":
            deployment.stopped_at = now
        self._disarm_guards()
        self._status(status, reason)

    def _status(self, status: str, reason: str | None = None) -> None:
        self.deployment.status, self.deployment.status_reason = status, reason
        self.deployment.updated_at = self.world.clock.time()


def traffic_steps(deployment: Deployment) -> list[tuple[float, float]]:
    """Production percentages for the target, each with the AWS minutes to bake after it."""
    config = deployment.config
    if deployment.source is None:  # nothing to share with: the steps' rest would go to nobody
        return [(100.0, 0)]
    if deployment.strategy == "CANARY":
        canary = config.get("canaryConfiguration") or {}
        return [(float(canary.get("canaryPercent", 5)), canary.get("canaryBakeTimeInMinutes", 10)), (100.0, 0)]
    if deployment.strategy == "LINEAR":
        linear = config.get("linearConfiguration") or {}
        step, minutes = float(linear.get("stepPercent", 10)), linear.get("stepBakeTimeInMinutes", 6)
        before_last = [(step * n, minutes) for n in range(1, math.ceil(100 / step))]
        return [*before_last, (100.0, 0)]
    return [(100.0, 0)]
