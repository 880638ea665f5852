"""How a release reaches production: the deployment configuration that UpdateService is sent, and what to say of it.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html
"""

from __future__ import annotations

from typing import Any

from pipeline.config import Rollout

NO_GATE = "ROLLING has no gate before production: users reach the new release as soon as its first task is healthy."
OWN_KEYS = ("strategy", "bakeTimeInMinutes", "canaryConfiguration", "linearConfiguration")
ROLLING_KEYS = ("earlySuccessCriteria",)  # of rolling deployments only, says the page above


def note_on(strategy: str) -> str:
    """What a user has to know of a strategy; "" when a gate stands before production."""
    return NO_GATE if strategy == "ROLLING" else ""


def configuration(rollout: Rollout, live: dict[str, Any], tasks: int) -> dict[str, Any]:
    """The deployment configuration of this release. Alarms, and the hooks of a strategy that has a gate, stay as live.

    UpdateService takes it whole, so that a strategy which was changed counts at once.
    """
    foreign = OWN_KEYS + ROLLING_KEYS if rollout.is_gated else OWN_KEYS
    kept = {key: value for key, value in live.items() if key not in foreign}
    common = {**kept, "strategy": rollout.strategy, "maximumPercent": rollout.maximum_percent(tasks)}
    if not rollout.is_gated:
        breaker = {**(live.get("deploymentCircuitBreaker") or {}), "enable": True, "rollback": True}
        return {**common, "minimumHealthyPercent": 100, "lifecycleHooks": [], "deploymentCircuitBreaker": breaker}
    return {
        **common,
        "minimumHealthyPercent": 100,
        # AWS's pages disagree on whether it works here; hook, guards and alarms do.
        "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        "bakeTimeInMinutes": rollout.bake_minutes,
        **_steps(rollout),
    }


def _steps(rollout: Rollout) -> dict[str, Any]:
    if rollout.strategy == "CANARY":
        step = rollout.canary_step
        return {"canaryConfiguration": {"canaryPercent": step.percent, "canaryBakeTimeInMinutes": step.bake_minutes}}
    if rollout.strategy == "LINEAR":
        steps = rollout.linear_steps
        return {
            "linearConfiguration": {
                "stepPercent": steps.step_percent,
                "stepBakeTimeInMinutes": steps.step_bake_minutes,
            }
        }
    return {}
