"""What exists once per account and environment, and the alarms on cost."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.stages.alarms import alarms, max_tasks
from pipeline.stages.bootstrap import bootstrap
from pipeline.stages.deploy import deploy_foundation
from tests.pipeline.conftest import SERVICE, Cloud, Configure


def test_bootstrap_can_be_repeated(cloud: Cloud) -> None:
    """A dry run says what is missing; the first run makes it, the second finds it."""
    planned = bootstrap(cloud.config, cloud.aws, cloud.clock, dry_run=True)
    first = bootstrap(cloud.config, cloud.aws, cloud.clock)
    second = bootstrap(cloud.config, cloud.aws, cloud.clock)

    assert [[s.action for s in run.stacks] for run in (planned, first, second)] == [
        ["would-create", "would-create"],
        ["created", "created"],
        ["unchanged", "unchanged"],
    ]
    assert planned.repository_uri == ""
    assert first.repository_uri.endswith(f"/{cloud.config.project}-test")
    assert first.artifact_bucket == second.artifact_bucket != ""


def test_alarms_need_the_cluster_they_watch(cloud: Cloud) -> None:
    """Before the first deploy there is nothing to watch: the error names the command."""
    with pytest.raises(UsageError, match="onnxship deploy"):
        alarms(cloud.config, cloud.aws, cloud.clock)


def test_a_dry_run_needs_no_cluster(cloud: Cloud) -> None:
    """Before the first deploy a dry run says what the alarms will be."""
    planned = alarms(cloud.config, cloud.aws, cloud.clock, dry_run=True)

    assert [stack.action for stack in planned.stacks] == ["would-create", "would-create"]


def test_alarms_stand_in_both_regions(cloud: Cloud) -> None:
    """cost stands in the service's region, billing in us-east-1, and every address has a state."""
    cost = cloud.config.cost.model_copy(update={"notify": ["ops@example.com"], "monthly_usd": 42.0})
    config = cloud.config.model_copy(update={"cost": cost})
    bootstrap(config, cloud.aws, cloud.clock)
    deploy_foundation(config, cloud.aws, cloud.clock, service=SERVICE)

    made = alarms(config, cloud.aws, cloud.clock)
    again = alarms(config, cloud.aws, cloud.clock, dry_run=True)

    assert [stack.action for stack in made.stacks] == ["created", "created"]
    assert [stack.action for stack in again.stacks] == ["unchanged", "unchanged"]
    assert (made.monthly_usd, set(made.subscriptions)) == (42.0, {"ops@example.com"})
    described = cloud.aws.call("cloudformation", "describe_stacks", region="us-east-1")["Stacks"]
    assert config.stack_name("billing") in {stack["StackName"] for stack in described}


@pytest.mark.parametrize(
    ("rollout", "tasks"),
    [
        ({}, 6),
        ({"bake_minutes": 44}, 6),
        ({"bake_minutes": 45}, 13),
        ({"strategy": "CANARY"}, 6),
        ({"strategy": "CANARY", "canary": {"bake_minutes": 35}}, 13),
        ({"strategy": "LINEAR"}, 13),
        ({"strategy": "ROLLING", "bake_minutes": 60}, 6),
    ],
)
def test_a_deployment_that_lasts_about_an_hour_is_no_alarm(
    configure: Configure, rollout: dict[str, Any], tasks: int
) -> None:
    """Twice the tasks, and the gate's own, are as they should be while shift and bake take 45 minutes or more."""
    assert tasks == max_tasks(configure(rollout=rollout))
