"""Stops what runs, whoever began it: production back on the release before, by one call to ECS; or waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.aws.ecs import RUNNING_STATUSES, Deployment, describe_deployment, list_deployments, stop_deployment
from pipeline.aws.session import Aws
from pipeline.deployment.access import clear_gate
from pipeline.deployment.follower import ignore
from pipeline.deployment.gate_place import stop_gates
from pipeline.deployment.place import Place
from pipeline.deployment.settling import is_superseded
from pipeline.errors import AwsError, StateUnknown
from pipeline.waiting import Clock, wait_until

STOP_TIMEOUT_S = 1800
CLEAN_UP = "CLEAN_UP"


def stop_running(
    aws: Aws, clock: Clock, place: Place, *, interval_s: float, on_progress: Callable[[str], None] = ignore
) -> Deployment | None:
    """Stop the deployment that runs or bakes and wait for its end; None when none runs (any more).

    So are those that waited for its end, or took its place meanwhile; the first that could be stopped is returned.
    `production_weight` of what is returned is the one from before. Neither S3 nor ECR is asked. What a killed run's
    gate left behind is cleared. Raises StateUnknown when ECS could not go back.
    """
    stopped = None
    while deployment := running_deployment(aws, place):
        ended = _stop_one(aws, clock, place, deployment, interval_s, on_progress)
        stopped = stopped or ended
    try:
        clear_gate(aws, clock, place)
    except AwsError as error:
        on_progress(f"what an earlier gate left open could not be cleared: {error.what}")
    return stopped


def running_deployment(aws: Aws, place: Place) -> Deployment | None:
    """The service's deployment that is not over, or None; of several the oldest, for whose end others may wait."""
    for arn, _ in reversed(list_deployments(aws, place.cluster, place.service, RUNNING_STATUSES)):
        deployment = describe_deployment(aws, arn)
        if deployment is not None and not deployment.has_ended:
            return deployment
    return None


def wait_for_clean_up(
    aws: Aws, clock: Clock, place: Place, *, interval_s: float, on_progress: Callable[[str], None] = ignore
) -> None:
    """Wait for the end of a deployment that only takes old tasks away: where production is, is decided already.

    Raises StateUnknown when it goes on for longer than STOP_TIMEOUT_S.
    """
    deployment = running_deployment(aws, place)
    if deployment is None or deployment.stage != CLEAN_UP:
        return
    arn = deployment.arn
    on_progress(f"waiting for deployment {arn}, which only takes old tasks away ({deployment.status}, {CLEAN_UP})")
    wait_until(
        lambda: True if (seen := describe_deployment(aws, arn)) is None or seen.has_ended else None,
        clock=clock, timeout_s=STOP_TIMEOUT_S, interval_s=interval_s,
        on_timeout=lambda: StateUnknown(
            f"Deployment {arn} still takes old tasks away after {STOP_TIMEOUT_S} s.",
            f"see `onnxship status {place.options}`",
        ),
    )  # fmt: skip


def _stop_one(
    aws: Aws, clock: Clock, place: Place, deployment: Deployment, interval_s: float, on_progress: Callable[[str], None]
) -> Deployment | None:  # fmt: skip
    arn, began_s, is_told = deployment.arn, clock.monotonic(), deployment.production_weight == 0
    on_progress(f"stopping deployment {arn} ({deployment.status}, stage {deployment.stage or 'none'})")
    if deployment.status in ("PENDING", "IN_PROGRESS"):
        _stop(aws, arn)
    _stop_gates(aws, place, on_progress)  # not only at the end: what they load next is production

    def ended() -> Deployment | None:
        nonlocal is_told
        seen = describe_deployment(aws, arn)
        if seen and not is_told and seen.production_weight == 0:
            is_told = True
            on_progress(f"production is back after {clock.monotonic() - began_s:.1f} s; ECS ends the other tasks")
        return seen if seen and seen.has_ended else None

    end = wait_until(
        ended, clock=clock, timeout_s=STOP_TIMEOUT_S, interval_s=interval_s,
        on_timeout=lambda: StateUnknown(
            f"Deployment {arn} has not stopped after {STOP_TIMEOUT_S} s.", f"see `onnxship status {place.options}`"
        ),
    )  # fmt: skip
    if end.status == "SUCCESSFUL":
        on_progress(f"deployment {arn} had finished before it could be stopped")
        return None
    if is_superseded(aws, place, end):
        on_progress(f"deployment {arn} was over: a newer one took its place")
        return None
    if end.status != "ROLLBACK_SUCCESSFUL":
        raise StateUnknown(
            f"Deployment {arn} ended as {end.status}: {end.rollback_reason or end.status_reason or 'no reason'}.",
            f"look what runs: `onnxship status {place.options}`",
        )
    return replace(end, production_weight=deployment.production_weight)


def _stop_gates(aws: Aws, place: Place, on_progress: Callable[[str], None]) -> None:
    try:
        stop_gates(aws, place.cluster, place.gate_family)
    except AwsError as error:
        on_progress(f"the gate's task could not be stopped: {error.what}")


def _stop(aws: Aws, arn: str) -> None:
    """Ask ECS to go back; that the deployment ended, or went back already, is no error."""
    try:
        stop_deployment(aws, arn)
    except AwsError:
        seen = describe_deployment(aws, arn)
        if seen is None or seen.status in ("PENDING", "IN_PROGRESS"):
            raise
