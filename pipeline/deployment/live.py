"""Which revision serves production, told by ECS's own deployments."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.aws.ecs import (
    RUNNING_STATUSES,
    Deployment,
    describe_deployment,
    describe_revision,
    describe_service,
    list_deployments,
)
from pipeline.aws.session import Aws
from pipeline.deployment.place import Place

HALF = 50.0  # per cent of production's weight


@dataclass(frozen=True, slots=True)
class LiveRevision:
    """What serves now; `image_digest` is "" when ECS does not say."""

    task_definition_arn: str
    image_digest: str


def live_revision(aws: Aws, place: Place) -> LiveRevision:
    """`live_revision_of` the place's service."""
    return live_revision_of(aws, place.cluster, place.service)


def live_revision_of(aws: Aws, cluster: str, service_name: str) -> LiveRevision:
    """The revision of the newest deployment that ended well, or that the newest rollback went back to.

    Not DescribeServices' task definition: that may be what was asked for last, though ECS has gone back from it.
    ECS lists deployments for 90 days; a service that was quiet for longer runs what it says it runs.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html
    """
    for arn, _ in list_deployments(aws, cluster, service_name):
        deployment = describe_deployment(aws, arn)
        if deployment is None or deployment.status not in ("SUCCESSFUL", "ROLLBACK_SUCCESSFUL"):
            continue
        is_rollback = deployment.status == "ROLLBACK_SUCCESSFUL"
        revision_arn = deployment.rollback_revision if is_rollback else deployment.target_revision
        if revision_arn and (revision := describe_revision(aws, revision_arn)):
            return LiveRevision(revision.task_definition, (revision.image_digests or ("",))[0])
    service = describe_service(aws, cluster, service_name)
    return LiveRevision(service.task_definition if service else "", "")


def serving_revision(aws: Aws, place: Place) -> LiveRevision:
    """The revision with production's weight: while a deployment bakes its target, which may still be taken back."""
    for arn, _ in list_deployments(aws, place.cluster, place.service, RUNNING_STATUSES):
        deployment = describe_deployment(aws, arn)
        if deployment is None or deployment.has_ended or not _serves(deployment):
            continue
        if revision := describe_revision(aws, deployment.target_revision):
            return LiveRevision(revision.task_definition, (revision.image_digests or ("",))[0])
    return live_revision(aws, place)


def _serves(deployment: Deployment) -> bool:
    """Whether most of production reaches the deployment's target; ROLLING has no weights."""
    if deployment.strategy == "ROLLING":
        return deployment.has_replaced
    return deployment.production_weight > HALF
