"""PAUSE hooks: a deployment waits at a stage until somebody continues it, or the hook's time is over.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from rehearsal.ecs.guards import Interrupted
from rehearsal.ecs.state import Deployment, Hook, Interruption, Json
from rehearsal.ecs.world import Time

DEFAULT_TIMEOUT_MINUTES = 1440


def hooks_at(deployment: Deployment, stage: str) -> list[Json]:
    """The configured hooks of one stage."""
    hooks = deployment.config.get("lifecycleHooks") or []
    return [hook for hook in hooks if stage in hook.get("lifecycleStages", [])]


def has_hooks(deployment: Deployment, stage: str) -> bool:
    return bool(hooks_at(deployment, stage))


async def await_pause_hooks(
    deployment: Deployment, stage: str, clock: Time, wait_until: Callable[[Callable[[], bool]], Awaitable[bool]]
) -> None:
    """Wait for every hook of the stage; they wait side by side, and one that says roll back wins.

    Timeouts are real minutes, never compressed: they bound work that takes real time.
    """
    waiting = [_open(hook, stage, clock.time()) for hook in hooks_at(deployment, stage)]
    deployment.hooks += waiting

    def settled() -> bool:
        for hook in waiting:
            _expire(hook, clock.time())
        return any(_refuses(hook) for hook in waiting) or not any(h.status == "AWAITING_ACTION" for h in waiting)

    await wait_until(settled)
    refused = next((hook for hook in waiting if _refuses(hook)), None)
    if refused:
        ending = "timed out" if refused.status == "TIMED_OUT" else "was rolled back"
        raise Interrupted(
            Interruption("ROLLBACK", f"Service deployment rolled back because {stage} pause hook {ending}.")
        )


def _open(hook: Json, stage: str, now: float) -> Hook:
    timeout = hook.get("timeoutConfiguration") or {}
    minutes = timeout.get("timeoutInMinutes", DEFAULT_TIMEOUT_MINUTES)
    return Hook(
        f"ecs-pause-{secrets.token_urlsafe(32)}", stage, now + 60.0 * minutes, timeout.get("action", "ROLLBACK")
    )


def _expire(hook: Hook, now: float) -> None:
    if hook.status == "AWAITING_ACTION" and now >= hook.expires_at:
        hook.status = "TIMED_OUT"


def _refuses(hook: Hook) -> bool:
    return hook.status == "FAILED" or (hook.status == "TIMED_OUT" and hook.timeout_action == "ROLLBACK")
