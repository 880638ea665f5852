"""Actions on service deployments and revisions, carried out inside the loop."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rehearsal.ecs.refusals import conflict, deployment_not_found, invalid
from rehearsal.ecs.scheduler import Scheduler
from rehearsal.ecs.state import Deployment, Interruption, Json, Revision, Service
from rehearsal.ecs.views import deployment_brief, deployment_view, revision_view

STOPPABLE = ("PENDING", "IN_PROGRESS")
GOING_BACK = ("STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS")
ASKED_BACK = "Service deployment rolled back because a rollback was requested by the user."
ABORTED = "Service deployment stopped because an abort was requested by the user."


class DeploymentApi:
    """List-, Describe-, Stop- and ContinueServiceDeployment, DescribeServiceRevisions."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def list(self, params: Json, service: Service) -> list[Json]:
        """The briefs of ListServiceDeployments, newest first, unpaged."""
        wanted = params.get("status") or []
        span = params.get("createdAt") or {}
        return [
            deployment_brief(service, one)
            for one in service.deployments
            if (not wanted or one.status in wanted)
            and _seconds(span.get("after"), 0.0) <= one.created_at <= _seconds(span.get("before"), float("inf"))
        ]

    async def describe(self, params: Json) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceDeployments.html"""
        known = {one.arn: (service, one) for service in self._scheduler.services for one in service.deployments}
        arns = params["serviceDeploymentArns"]
        return {
            "serviceDeployments": [deployment_view(*known[arn]) for arn in arns if arn in known],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in known],
        }

    async def describe_revisions(self, params: Json) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceRevisions.html"""
        known: dict[str, tuple[Service, Revision]] = {
            one.arn: (service, one) for service in self._scheduler.services for one in service.revisions
        }
        arns = params["serviceRevisionArns"]
        return {
            "serviceRevisions": [revision_view(*known[arn]) for arn in arns if arn in known],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if arn not in known],
        }

    async def stop(self, params: Json) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stop-service-deployment.html"""
        deployment = self._get(params["serviceDeploymentArn"])
        kind = params.get("stopType") or "ROLLBACK"
        if kind == "ABORT" and not self._scheduler.questions.abort_is_accepted:
            raise invalid("Invalid stopType. Valid values are: ROLLBACK")
        if deployment.status in STOPPABLE:
            rollback = kind == "ROLLBACK"
            deployment.interruption = (
                Interruption("ROLLBACK", ASKED_BACK) if rollback else Interruption("STOP", ABORTED)
            )
            deployment.status = "ROLLBACK_REQUESTED" if rollback else "STOP_REQUESTED"
        elif deployment.status not in GOING_BACK:
            raise conflict("Stopping a service deployment is not allowed for service deployment in terminal states.")
        return {"serviceDeploymentArn": deployment.arn}

    async def proceed(self, params: Json) -> Json:
        """ContinueServiceDeployment.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/continue-service-deployment.html, texts:
        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshooting-blue-green.html
        """
        deployment = self._get(params["serviceDeploymentArn"])
        hook_id, action = params["hookId"], params.get("action") or "CONTINUE"
        if not hook_id.startswith("ecs-"):
            raise invalid("Invalid hookId: hookId must follow the format: ecs-{hookType}-{id}")
        if not deployment.ongoing:
            raise invalid("Continuing a service deployment is not allowed for service deployment in terminal states.")
        hook = next((one for one in deployment.hooks if one.id == hook_id and one.status == "AWAITING_ACTION"), None)
        if hook is None or deployment.status != "IN_PROGRESS":
            raise invalid(
                "Provided hookId is either completed, unavailable, or not associated with the given Resource ARN"
            )
        hook.status = "SUCCEEDED" if action == "CONTINUE" else "FAILED"
        return {"serviceDeploymentArn": deployment.arn}

    def _get(self, arn: str) -> Deployment:
        for service in self._scheduler.services:
            for deployment in service.deployments:
                if deployment.arn == arn:
                    return deployment
        raise deployment_not_found()


def _seconds(value: Any, default: float) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    return default if value is None else float(value)
