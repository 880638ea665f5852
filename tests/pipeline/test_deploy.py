"""The stacks of a service: filled by name, synced with what is live, never moved under a running deployment."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import ConfigError, Locked, StateUnknown
from pipeline.results import Deployed
from pipeline.stages.bootstrap import bootstrap
from pipeline.stages.deploy import deploy_foundation, deploy_service
from pipeline.waiting import FakeClock
from tests.pipeline.conftest import SERVICE, Cloud, Configure
from tests.pipeline.stacks_world import BLUE, CLUSTER, GREEN, LIVE, SERVICE_OUTPUTS, SmallCloudFormation, SmallStack

FIRST = "arn:aws:ecs:eu-west-1:123456789012:task-definition/p-e-s:1"
OUTPUTS = {
    "demo-test-registry": {"ArtifactBucketName": "bucket", "RepositoryArn": "arn:repository"},
    "demo-test-network": {"VpcId": "vpc-1", "PrivateSubnetIds": "a,b", "PublicSubnetIds": "c,d"},
    "demo-test-cluster": {
        "ClusterName": CLUSTER,
        "TaskSecurityGroupId": "sg-1",
        "LoadBalancerFullName": "app/x/1",
        "ProductionListenerArn": "listener/1",
        "TestListenerArn": "listener/2",
    },
    "demo-test-tiny-runtime": {
        "InfrastructureRoleArn": "role/1",
        "GateSecretArn": "secret/1",
        "LogGroupName": "logs",
    },
}
SERVICE_STACK = "demo-test-tiny-service"


def world() -> SmallCloudFormation:
    """An environment whose foundation stands, without a service."""
    stacks = {name: SmallStack(name, "CREATE_COMPLETE", outputs=outputs) for name, outputs in OUTPUTS.items()}
    return SmallCloudFormation(stacks=stacks, outputs_of={SERVICE_STACK: SERVICE_OUTPUTS})


def deploy(small: SmallCloudFormation, config: Config, **options: Any) -> Deployed:
    aws: Any = small
    return deploy_service(config, aws, FakeClock(), service=SERVICE, task_definition_arn=FIRST, **options)


@pytest.fixture
def live(config: Config) -> SmallCloudFormation:
    """A service that was created with revision 1 on blue; by now revision 7 is live on green."""
    small = world()
    deploy(small, config)
    small.executed.clear()
    return small


def test_a_new_service_starts_with_what_was_registered(config: Config) -> None:
    """The first deployment sets the task definition, all weight on blue, and the number of tasks."""
    small = world()

    deploy(small, config)

    given = small.executed[0]["resolved"]
    assert (given["TaskDefinitionArn"], given["InitialDesiredCount"]) == (FIRST, "2")
    assert "BlueWeight" not in given
    assert (given["ClusterName"], given["PrivateSubnetIds"], given["PathPatterns"]) == (CLUSTER, "a,b", "/*")


def test_the_services_outputs_feed_the_next_stack(config: Config) -> None:
    """observability gets the service's name and target groups by the names of the outputs."""
    small = world()

    deploy(small, config)

    given = small.executed[1]["resolved"]
    assert (given["ServiceName"], given["BlueTargetGroupArn"]) == ("service-1", BLUE)


def test_what_ecs_moved_is_nothing_to_do(config: Config, live: SmallCloudFormation) -> None:
    """Another task definition and other weights than the stack remembers are no change."""
    result = deploy(live, config)

    assert [stack.action for stack in result.stacks] == ["unchanged", "unchanged"]
    assert live.executed == []


def test_a_real_change_comes_after_the_live_values(configure: Configure, live: SmallCloudFormation) -> None:
    """First the parameters with the previous template, then the change: both with what is live."""
    result = deploy(live, configure(compute={"max": 9}))

    synced, changed = live.executed
    governed = {"TaskDefinitionArn": LIVE, "BlueWeight": "0", "GreenWeight": "100", "InitialDesiredCount": "0"}
    assert result.stacks[0].action == "updated"
    assert synced["UsePreviousTemplate"] is True
    assert (synced["resolved"]["MaxTasks"], changed["resolved"]["MaxTasks"]) == ("6", "9")
    assert governed.items() <= changed["resolved"].items()


def test_what_ecs_went_back_from_is_never_put_into_a_stack(configure: Configure, live: SmallCloudFormation) -> None:
    """DescribeServices may still show what was asked for; the deployments say what serves."""
    live.asked_for, live.deployments = FIRST.replace(":1", ":8"), 2

    deploy(live, configure(compute={"max": 9}))

    assert [LIVE, LIVE] == [request["resolved"]["TaskDefinitionArn"] for request in live.executed]


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ({}, ("BLUE_GREEN", "5", "10", "10", "6", "200")),
        (
            {"strategy": "CANARY", "canary": {"percent": 0.5, "bake_minutes": 3}},
            ("CANARY", "0.5", "3", "10", "6", "200"),
        ),
        ({"strategy": "LINEAR", "linear": {"step_percent": 25}}, ("LINEAR", "5", "10", "25", "6", "200")),
        ({"strategy": "ROLLING"}, ("ROLLING", "5", "10", "10", "6", "150")),
    ],
)
def test_the_rollout_s_settings_reach_the_template(
    configure: Configure, rollout: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """Strategy, its steps, and how many tasks may run meanwhile."""
    small = world()

    deploy(small, configure(rollout=rollout))

    given = small.executed[0]["resolved"]
    names = ("Strategy", "CanaryPercent", "CanaryBakeMinutes", "LinearStepPercent", "LinearStepBakeMinutes")
    assert expected == tuple(given[name] for name in (*names, "MaximumPercent"))


def test_a_stack_in_step_is_not_synced_again(configure: Configure, live: SmallCloudFormation) -> None:
    """When the stack knows the live values there is one change set only."""
    deploy(live, configure(compute={"max": 9}))
    live.executed.clear()

    deploy(live, configure(compute={"max": 10}))

    assert [request["resolved"]["MaxTasks"] for request in live.executed] == ["10"]


def test_nothing_is_changed_under_a_running_deployment(configure: Configure, live: SmallCloudFormation) -> None:
    """The deployment is named, with the commands to wait for it or to stop it."""
    live.running_deployments = ["deployment/9"]

    with pytest.raises(Locked, match="deployment/9") as caught:
        deploy(live, configure(compute={"max": 9}))

    assert "onnxship abort" in caught.value.remedy
    assert (live.executed, live.change_sets) == ([], {})


def test_weights_that_moved_need_a_person(configure: Configure, live: SmallCloudFormation) -> None:
    """Other weights after the update than before, without a deployment that explains them, are exit code 5."""
    live.weights_after_update = {BLUE: 100, GREEN: 0}

    with pytest.raises(StateUnknown, match="weights of its rules are others") as caught:
        deploy(live, configure(compute={"max": 9}))

    assert "BlueWeight: 0 -> 100" in caught.value.details


def test_the_gate_is_followed_while_the_service_is_created(config: Config) -> None:
    """`follow` is called on every poll of the service's stack."""
    calls: list[int] = []

    deploy(world(), config, follow=lambda: calls.append(1))

    assert len(calls) >= 2


def test_a_dry_run_makes_no_change_set(configure: Configure, live: SmallCloudFormation) -> None:
    """The difference is told from reads alone; what ECS governs is left out of it."""
    result = deploy(live, configure(compute={"max": 9}), dry_run=True)

    assert (result.stacks[0].action, result.stacks[0].changes) == ("would-update", ("MaxTasks: 6 -> 9",))
    assert (live.executed, live.change_sets) == ([], {})


def test_nobody_may_enter_is_a_mistake(config: Config) -> None:
    """Without ingress_cidrs the load balancer would be unreachable: the error says what to write."""
    edge = config.edge.model_copy(update={"ingress_cidrs": []})
    aws: Any = world()

    with pytest.raises(ConfigError, match="ingress_cidrs is empty"):
        deploy_foundation(config.model_copy(update={"edge": edge}), aws, FakeClock(), service=SERVICE)


def test_the_foundation_stands_and_stands_again(cloud: Cloud) -> None:
    """network, cluster and runtime are created in order from each other's outputs; a second time changes nothing."""
    config = cloud.config
    bootstrap(config, cloud.aws, cloud.clock)

    planned = deploy_foundation(config, cloud.aws, cloud.clock, service=SERVICE, dry_run=True)
    first = deploy_foundation(config, cloud.aws, cloud.clock, service=SERVICE)
    second = deploy_foundation(config, cloud.aws, cloud.clock, service=SERVICE)

    assert [stack.action for stack in planned.stacks] == ["would-create"] * 3
    assert [stack.action for stack in first.stacks] == ["created"] * 3
    assert [stack.action for stack in second.stacks] == ["unchanged"] * 3
