"""Removes an environment: its stacks in reverse order, and only when asked for also images, models and records."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.aws.cloudformation import describe_stack, outputs
from pipeline.aws.ec2 import close_all
from pipeline.aws.lock import LockPlace, read_lock
from pipeline.aws.registry import delete_bucket, delete_repository
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.gate_place import end_all_gates
from pipeline.errors import Locked
from pipeline.results import Destroyed, StackChange
from pipeline.stacks import Stacks, silent
from pipeline.waiting import Clock

BILLING_REGION = "us-east-1"  # AWS publishes EstimatedCharges there alone


def destroy_plan(config: Config, aws: Aws, *, everything: bool) -> tuple[str, ...]:
    """The names of the stacks that exist and would go, in the order in which they would."""
    wanted = [name for name, region in stacks_of(config, everything) if describe_stack(aws, name, region=region)]
    return tuple(wanted)


def destroy(
    config: Config, aws: Aws, clock: Clock, *, everything: bool, on_progress: Callable[[str], None] = silent
) -> Destroyed:
    """Delete the environment's stacks; what is kept, and so still costs, is in the result.

    `everything` also deletes the repository with its images and the bucket with its models and records.
    Raises Locked while a run holds a lock.
    """
    registry = outputs(aws, config.stack_name("registry"))
    bucket, repository = registry.get("ArtifactBucketName", ""), registry.get("RepositoryName", "")
    if bucket:
        _refuse_locked(config, aws, bucket)
    _close_gates(config, aws, clock)
    stacks = Stacks(aws, clock, config.poll_interval_s, on_progress)
    changes: list[StackChange] = []
    for name, region in stacks_of(config, everything):
        change = stacks.delete(name, region=region)
        changes += [change] if change.action == "deleted" else []
    if everything and repository:
        # The stack retains both, so that no template can lose releases; here a person asked for it.
        delete_repository(aws, repository)
        delete_bucket(aws, bucket)
        return Destroyed(tuple(changes), ())
    return Destroyed(tuple(changes), _still_costs(repository, bucket))


def stacks_of(config: Config, everything: bool) -> list[tuple[str, str | None]]:
    """Name and region of every stack that the environment may have, the last created first."""
    per_service = [
        (config.stack_name(template, service), None)
        for service in config.services
        for template in ("observability", "service", "runtime")
    ]
    shared: list[tuple[str, str | None]] = [
        (config.stack_name("cost"), None), *per_service,
        (config.stack_name("cluster"), None), (config.stack_name("network"), None),
        (config.stack_name("billing"), BILLING_REGION),
    ]  # fmt: skip
    kept = [(config.stack_name("registry"), None), (config.stack_name("delivery"), None)]
    return shared + (kept if everything else [])


def _close_gates(config: Config, aws: Aws, clock: Clock) -> None:
    """End what killed gates left, also of a first release that has no service yet.

    A task holds the cluster, and a rule names the gates' security group: neither could be deleted.
    """
    told = outputs(aws, config.stack_name("cluster"))
    if "ClusterName" in told:
        end_all_gates(aws, clock, told["ClusterName"], config.poll_interval_s)
    if "LoadBalancerSecurityGroupId" in told:
        close_all(aws, told["LoadBalancerSecurityGroupId"])


def _refuse_locked(config: Config, aws: Aws, bucket: str) -> None:
    for service in config.services:
        place = LockPlace(bucket, config.environment_name, service)
        state = read_lock(aws, place)
        if state.held:
            raise Locked(
                f"`{service}` is locked by {state.description} until {state.expires_at}.",
                f"wait for it, or if that run is dead: `{place.command}`",
            )


def _still_costs(repository: str, bucket: str) -> tuple[str, ...]:
    if not bucket:
        return ()
    return (
        f"ECR repository {repository}: 0.10 USD a month for each GB of images",
        f"S3 bucket {bucket}: models and release records, 0.023 USD a month for each GB",
        "both go with `onnxship destroy --everything`",
    )
