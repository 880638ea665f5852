"""Actions on services, carried out inside the loop. Each takes the request's members and gives the answer's."""

from __future__ import annotations

import secrets
import time
from typing import Any

from botocore.exceptions import ClientError

from rehearsal.ecs.refusals import client, invalid, service_not_active, service_not_found
from rehearsal.ecs.scheduler import Scheduler
from rehearsal.ecs.state import Deployment, Interruption, Json, Revision, Service, digits
from rehearsal.ecs.validation import check_spec, configured
from rehearsal.ecs.views import service_view

# What a revision is made of: a change of any of these starts a deployment (API_UpdateService).
REVISION_KEYS = (
    "taskDefinition",
    "loadBalancers",
    "networkConfiguration",
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
)
NOT_SPEC = ("cluster", "service", "serviceName", "desiredCount", "clientToken", "forceNewDeployment")
SUPERSEDED = "Service deployment stopped because a newer service deployment was created."


class ServiceApi:
    """CreateService, UpdateService, DeleteService, DescribeServices, ListServices."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def create(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html"""
        name = params["serviceName"]
        arn = f"{cluster_arn.replace(':cluster/', ':service/')}/{name}"
        before = self._find(arn)
        if before and before.status == "ACTIVE":
            raise invalid("Creation of service was not idempotent.")
        if before and before.status == "DRAINING":
            raise invalid("Unable to Start a service that is still Draining.")
        spec = {key: value for key, value in params.items() if key not in NOT_SPEC and value is not None}
        definition = await self._definition(spec.get("taskDefinition"))
        spec["taskDefinition"] = definition["taskDefinitionArn"]
        check_spec(spec, definition)
        spec.setdefault("schedulingStrategy", "REPLICA")
        spec.setdefault("deploymentController", {"type": "ECS"})
        if not spec.get("capacityProviderStrategy"):
            spec.setdefault("launchType", "EC2")
        await self._check_balanced(spec)
        desired = 1 if params.get("desiredCount") is None else params["desiredCount"]
        service = Service(arn, name, cluster_arn, spec, desired, time.time())
        self._scheduler.services = [one for one in self._scheduler.services if one is not before]
        self._scheduler.services.append(service)
        self._deploy(service, definition)
        return {"service": service_view(service, with_tags=True)}

    async def update(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html"""
        service = self.get(params["service"], cluster_arn)
        if service.status != "ACTIVE":
            raise service_not_active()
        changes = {key: value for key, value in params.items() if key not in NOT_SPEC and value is not None}
        definition = await self._definition(changes.get("taskDefinition") or service.spec["taskDefinition"])
        changes["taskDefinition"] = definition["taskDefinitionArn"]
        if changes.get("deploymentConfiguration"):
            changes["deploymentConfiguration"] = configured(service.config, changes["deploymentConfiguration"])
        spec = {**service.spec, **changes}
        check_spec(spec, definition)
        needed = self._needs_deployment(service, spec, params)
        if needed:
            make_way(service, self._scheduler.questions.update_during_deployment)
        service.spec = spec
        if params.get("desiredCount") is not None:
            service.desired_count = params["desiredCount"]
        if needed:
            self._deploy(service, definition)
        return {"service": service_view(service, with_tags=True)}

    async def delete(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteService.html"""
        service = self.get(params["service"], cluster_arn)
        if service.status != "ACTIVE":
            raise service_not_found()
        if service.desired_count > 0 and not params.get("force"):
            raise invalid("The service cannot be stopped while it is scaled above 0.")
        self._scheduler.abandon(service)
        return {"service": service_view(service, with_tags=True)}

    async def describe(self, params: Json, cluster_arn: str) -> Json:
        """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html"""
        with_tags = "TAGS" in (params.get("include") or [])
        found, failures = [], []
        for name in params.get("services") or []:
            arn = _service_arn(name, cluster_arn)
            service = self._find(arn)
            if service:
                found.append(service_view(service, with_tags))
            else:
                failures.append({"arn": arn, "reason": "MISSING"})
        return {"services": found, "failures": failures}

    async def list(self, params: Json, cluster_arn: str) -> list[str]:
        """The ARNs of ListServices, unpaged."""
        return [
            service.arn
            for service in self._scheduler.services
            if service.cluster_arn == cluster_arn
            and service.status == "ACTIVE"
            and params.get("launchType") in (None, service.spec.get("launchType"))
        ]

    def get(self, name: str, cluster_arn: str) -> Service:
        """The service by name or ARN."""
        service = self._find(_service_arn(name, cluster_arn))
        if service is None:
            raise service_not_found()
        return service

    def _find(self, arn: str) -> Service | None:
        return next((service for service in self._scheduler.services if service.arn == arn), None)

    async def _check_balanced(self, spec: Json) -> None:
        """https://repost.aws/knowledge-center/troubleshoot-unable-add-elb-ecs"""
        for balancer in spec.get("loadBalancers") or []:
            group = balancer["targetGroupArn"]
            if not await self._scheduler.traffic.is_balanced(group):
                raise invalid(
                    f"The target group with targetGroupArn {group} does not have an associated load balancer."
                )

    async def _definition(self, name: str | None) -> Json:
        if not name:
            raise invalid("TaskDefinition can not be blank.")
        return await describe_definition(self._scheduler, name)

    def _needs_deployment(self, service: Service, spec: Json, params: Json) -> bool:
        if params.get("forceNewDeployment"):
            return True
        if self._scheduler.questions.unchanged_task_definition_deploys and params.get("taskDefinition"):
            return True
        return any(spec.get(key) != service.spec.get(key) for key in REVISION_KEYS)

    def _deploy(self, service: Service, definition: Json) -> None:
        now = time.time()
        base = f"{service.cluster}/{service.name}"
        prefix = service.arn.partition(":service/")[0]
        revision = Revision(
            f"{prefix}:service-revision/{base}/{digits()}",
            f"ecs-svc/{digits()}",
            definition,
            {key: service.spec[key] for key in REVISION_KEYS if key in service.spec},
            now,
        )
        deployment = Deployment(
            f"{prefix}:service-deployment/{base}/{secrets.token_urlsafe(16)[:21]}", revision, service.config, now
        )
        service.revisions.append(revision)
        service.primary = revision
        self._scheduler.deploy(service, deployment)


def make_way(service: Service, reading: str) -> None:
    """What an update that begins a deployment does first to the one that runs (OpenQuestions).

    With "wait" that is nothing: the scheduler starts deployments one after the other.
    """
    if reading == "refuse" and service.ongoing:
        raise invalid("The service cannot be updated while a service deployment is in progress.")
    if reading not in ("supersede", "roll back"):
        return
    kind = "STOP" if reading == "supersede" else "ROLLBACK"
    for running in (one for one in service.deployments if one.status in ("PENDING", "IN_PROGRESS")):
        if running.stage != "CLEAN_UP":  # blue is going already: let it finish
            running.interruption = running.interruption or Interruption(kind, SUPERSEDED)


async def describe_definition(scheduler: Scheduler, name: str) -> dict[str, Any]:
    """A task definition that is ACTIVE, from moto."""
    try:
        answer = await scheduler.context.call("ecs", "describe_task_definition", taskDefinition=name)
    except ClientError as error:
        raise client("Unable to describe task definition.") from error
    definition: dict[str, Any] = answer["taskDefinition"]
    if definition.get("status") == "INACTIVE":
        raise client("TaskDefinition is inactive")
    return definition


def _service_arn(name: str, cluster_arn: str) -> str:
    if name.startswith("arn:"):
        return name
    return f"{cluster_arn.replace(':cluster/', ':service/')}/{name}"
