"""Canary and linear steps, and what guards them, on a turned clock; what AWS refuses in their settings."""

from __future__ import annotations

import pytest
from moto.core.exceptions import ServiceException

from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.traffic import Traffic
from rehearsal.ecs.validation import check_spec, configured
from tests.rehearsal.ecs.test_ecs_deployments import ALARMS, ALL_BLUE, ALL_GREEN, BREAKER

CANARY = {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 20, "canaryBakeTimeInMinutes": 30}}
LINEAR = {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 25, "stepBakeTimeInMinutes": 30}}


def seen_while(world, deployment, percent, do):
    """A script that acts once, when the target has this share of production."""
    done = []

    def script():
        if deployment.target.production_weight == percent and not done:
            done.append(percent)
            do()

    world.each_tick = script


@pytest.mark.parametrize(("config", "percent"), [(CANARY, 20.0), (LINEAR, 25.0), (LINEAR, 75.0)])
def test_an_alarm_during_a_step_takes_all_of_production_back(world, config, percent):
    """The step's share goes back to blue at once, and no later step is taken."""
    blue = world.released()
    deployment, rollout = world.rollout(alarms=ALARMS, **config)
    seen_while(world, deployment, percent, lambda: world.alarms.append("5xx"))

    world.play(rollout)

    taken = [weights["green"] for weights in world.weights_of("production")]
    assert (deployment.status, deployment.triggered_alarms) == ("ROLLBACK_SUCCESSFUL", ["5xx"])
    assert percent == max(taken)
    assert world.weights_of("production")[-1] == ALL_BLUE
    assert (len(world.service.healthy(blue)), world.service.remaining(deployment.target)) == (2, [])


@pytest.mark.parametrize(("config", "steps"), [(CANARY, 1), (LINEAR, 3)])
def test_a_step_waits_for_the_bake_of_the_one_before(world, config, steps):
    """Half an hour of AWS's time lies between two steps; after the last one only the bake of the whole follows."""
    world.released()
    deployment, rollout = world.rollout(**config)
    began = world.clock.time()

    world.play(rollout)

    assert deployment.seen_stage.count("PRODUCTION_TRAFFIC_SHIFT") == 1
    assert world.weights_of("production")[-1] == ALL_GREEN
    # A tick for each stage and step, and a little: nothing waits that is not asked to.
    assert 0 <= world.clock.time() - began - world.clock.minutes(30 * steps + 1) < 10


@pytest.mark.parametrize("config", [CANARY, LINEAR])
def test_a_first_release_has_nobody_to_share_with(world, config):
    """All of production goes to the first revision: the rest of a step would reach no task."""
    _, rollout = world.rollout(OpenQuestions(hooks_at_creation=False), **config)

    world.play(rollout)

    assert world.weights_of("production") == [{"blue": 100.0, "green": 0.0}]


def test_an_alarm_while_tasks_are_replaced_brings_the_old_ones_back(world):
    """ROLLING watches its alarms from the first new task on."""
    world.service.desired_count = 4
    blue = world.released()
    limits = {"maximumPercent": 125, "minimumHealthyPercent": 100}
    deployment, rollout = world.rollout(strategy="ROLLING", alarms=ALARMS, deploymentCircuitBreaker=BREAKER, **limits)
    healthy = []

    def script():
        healthy.append(len(world.service.healthy(blue)) + len(world.service.healthy(deployment.target)))
        if len(world.service.healthy(deployment.target)) == 2:
            world.alarms.append("5xx")

    world.each_tick = script
    world.play(rollout)

    assert (deployment.status, deployment.alarms_status) == ("ROLLBACK_SUCCESSFUL", "TRIGGERED")
    assert (len(world.service.healthy(blue)), world.service.remaining(deployment.target)) == (4, [])
    assert min(healthy) >= 4


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"strategy": "LINEAR", "canaryConfiguration": {"canaryPercent": 5}}, "only valid when .* is CANARY"),
        ({"strategy": "ROLLING", "linearConfiguration": {"stepPercent": 10}}, "only valid when .* is LINEAR"),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.05}}, "between 0.1 and 100"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2}}, "between 3 and 100"),
        ({"strategy": "LINEAR", "linearConfiguration": {"stepBakeTimeInMinutes": 1441}}, "between 0 and 1440"),
    ],
)
def test_settings_of_another_strategy_or_out_of_range_are_refused(config, words):
    """A step's settings belong to their strategy, and have AWS's ranges."""
    with pytest.raises(ServiceException, match=words):
        check_spec({"deploymentConfiguration": config}, {})


def test_a_strategy_s_own_settings_go_with_it():
    """What an update does not name stays, but for the steps of the strategy before."""
    before = {**CANARY, "bakeTimeInMinutes": 5, "lifecycleHooks": [{"targetType": "PAUSE"}]}

    assert configured(before, {**LINEAR, "lifecycleHooks": []}) == {
        **LINEAR, "bakeTimeInMinutes": 5, "lifecycleHooks": [],
    }  # fmt: skip


@pytest.mark.parametrize(("reading", "group"), [("serving", "green"), ("primary", "blue")])
def test_where_rolling_tasks_go_after_blue_green_can_be_read_both_ways(world, reading, group):
    """To the group that serves, as AWS's page on changing the strategy says, or to the letter of targetGroupArn."""
    world.released()
    second, rollout = world.rollout()
    world.play(rollout)
    assert second.target.slots[0].target_group == "green"
    balancer = {
        "containerName": "model", "containerPort": 8080, "targetGroupArn": "blue",
        "advancedConfiguration": {"alternateTargetGroupArn": "green"},
    }  # fmt: skip

    slot = Traffic(None, OpenQuestions(rolling_target_group=reading))._slot(balancer, "ROLLING", second.target)

    assert (slot.target_group, slot.production_rule) == (group, None)
