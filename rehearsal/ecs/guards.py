"""What watches a deployment: the circuit breaker and CloudWatch alarms."""

from __future__ import annotations

import math

from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Deployment, Interruption, Json
from rehearsal.ecs.world import World

BREAKER_REASON = "Service deployment rolled back because the circuit breaker threshold was exceeded."


class Interrupted(Exception):
    """The deployment leaves its way forward."""

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(interruption.reason)
        self.interruption = interruption


def breaker_threshold(breaker: Json, desired_count: int) -> int:
    """How many failed tasks trip the breaker: half of the desired count, at least 3 and at most 200, unless set.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ThresholdConfiguration.html
    """
    threshold = breaker.get("thresholdConfiguration") or {"type": "BOUNDED_PERCENT", "value": 50}
    if threshold["type"] == "COUNT":
        return int(threshold["value"])
    share = math.ceil(desired_count * int(threshold["value"]) / 100)
    return max(1, share) if threshold["type"] == "UNBOUNDED_PERCENT" else min(200, max(3, share))


def raise_when_tripped(deployment: Deployment) -> None:
    """Leave when the target's failed tasks reach the threshold."""
    if deployment.breaker_status == "MONITORING" and deployment.failures >= deployment.threshold:
        deployment.breaker_status = "TRIGGERED"
        roll_back = bool(deployment.config["deploymentCircuitBreaker"].get("rollback"))
        raise Interrupted(_verdict(roll_back, BREAKER_REASON))


def count_failure(deployment: Deployment) -> None:
    """One more task of the target that could not start, ended, or failed its health checks."""
    deployment.failures += 1


def count_healthy(deployment: Deployment) -> None:
    """A healthy task resets the count, unless resetOnHealthyTask is off (API_DeploymentCircuitBreaker)."""
    breaker = deployment.config.get("deploymentCircuitBreaker") or {}
    if breaker.get("resetOnHealthyTask", True):
        deployment.failures = 0


async def starts_alarmed(deployment: Deployment, world: World, questions: OpenQuestions) -> None:
    """Arm the alarms; one that is in ALARM already switches them off for this deployment.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html
    """
    alarms = deployment.config.get("alarms") or {}
    if not (alarms.get("enable") and alarms.get("alarmNames")):
        return
    if questions.alarm_already_in_alarm == "ignore" and await world.alarming(alarms["alarmNames"]):
        return
    deployment.alarms_status = "MONITORING"


async def watch_alarms(deployment: Deployment, world: World) -> None:
    """Leave when an alarm of the deployment is in ALARM."""
    if deployment.alarms_status != "MONITORING":
        return
    alarms = deployment.config["alarms"]
    triggered = await world.alarming(alarms["alarmNames"])
    if triggered:
        deployment.alarms_status, deployment.triggered_alarms = "TRIGGERED", triggered
        reason = f"Service deployment rolled back because of CloudWatch alarms in ALARM: {', '.join(triggered)}."
        raise Interrupted(_verdict(bool(alarms.get("rollback")), reason))


def _verdict(roll_back: bool, reason: str) -> Interruption:
    if roll_back:
        return Interruption("ROLLBACK", reason)
    return Interruption("FREEZE", reason.replace("rolled back", "stopped"))
