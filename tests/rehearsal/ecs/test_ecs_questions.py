"""Open questions, answered on a command line."""

from __future__ import annotations

import pytest

from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.refusals import Refused
from rehearsal.ecs.service_api import make_way

PAUSE = {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}


def test_answers_are_read_by_name():
    """Switches, choices and numbers are read; what is not said keeps its default."""
    words = ["hooks_at_creation=false", "failed_first_deployment=STOPPED", "rolling_alarm_bake_minutes=0.5"]
    expected = OpenQuestions(hooks_at_creation=False, failed_first_deployment="STOPPED", rolling_alarm_bake_minutes=0.5)
    assert OpenQuestions.parse(words) == expected


@pytest.mark.parametrize(
    ("word", "choices"),
    [("hook_at_creation=true", "hooks_at_creation"), ("mixed_rule_actions=drop", "keep, refuse")],
)
def test_a_mistake_is_told_with_what_there_is(word, choices):
    """A misspelled name or value is refused and lists the right ones."""
    with pytest.raises(ValueError, match=choices):
        OpenQuestions.parse([word])


@pytest.mark.parametrize(
    ("reading", "status"), [("supersede", "STOPPED"), ("roll back", "ROLLBACK_SUCCESSFUL"), ("wait", "SUCCESSFUL")]
)
def test_a_newer_deployment_meets_one_at_its_gate(world, reading, status):
    """It is stopped where it stands, rolled back, or left to its gate; blue has all of production until a gate says."""
    blue = world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])

    def script():
        hooks = world.open_hooks(deployment)
        if hooks and not deployment.interruption:
            assert blue.production_weight == 100
            make_way(world.service, reading)
            if reading == "wait":
                hooks[0].status = "SUCCEEDED"

    world.each_tick = script
    world.play(rollout)

    assert deployment.status == status
    assert (deployment.target.production_weight, blue.production_weight) == (
        (100, 0) if status == "SUCCESSFUL" else (0, 100)
    )


def test_a_newer_deployment_is_refused_while_one_runs(world):
    """The reading that has no second deployment; once the first has ended there is nothing to refuse."""
    world.rollout(lifecycleHooks=[PAUSE])
    with pytest.raises(Refused, match="while a service deployment is in progress"):
        make_way(world.service, "refuse")

    world.service.deployments[0].status = "SUCCESSFUL"
    make_way(world.service, "refuse")
