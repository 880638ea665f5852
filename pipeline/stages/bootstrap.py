"""`onnxship bootstrap`: what exists once per account and environment, the roles to deliver with and the registry."""

from __future__ import annotations

from collections.abc import Callable

from pipeline import stacks, templates
from pipeline.aws.cloudformation import outputs
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.results import Bootstrapped
from pipeline.stacks import Stacks
from pipeline.waiting import Clock

TEMPLATES = ("delivery", "registry")


def bootstrap(
    config: Config,
    aws: Aws,
    clock: Clock,
    *,
    on_progress: Callable[[str], None] = stacks.silent,
    dry_run: bool = False,
) -> Bootstrapped:
    """Bring up the stacks `delivery` and `registry`; again and again is fine.

    With `dry_run` nothing is changed: the stacks say `would-create` or `would-update`, and the repository and
    bucket are empty as long as there is no registry stack.
    """
    work = Stacks(aws, clock, config.poll_interval_s, on_progress)
    specs = [templates.stack_spec(config, template, {}) for template in TEMPLATES]
    changes = tuple(stacks.difference(aws, spec) if dry_run else work.bring_up(spec) for spec in specs)
    registry = outputs(aws, config.stack_name("registry"))
    return Bootstrapped(changes, registry.get("RepositoryUri", ""), registry.get("ArtifactBucketName", ""))
