"""CANARY, LINEAR and ROLLING through the pipeline, against a small ECS made by hand."""

import pytest
from pydantic import ValidationError

from pipeline.config import Rollout
from pipeline.deployment.strategy import configuration
from pipeline.deployment.switch import limit_s
from pipeline.errors import AwsError, GateRefused, RolledBack, StateUnknown
from pipeline.results import Verdict
from pipeline.stages.rollout import rollout
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_rolling_world import Rolling
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, Stepping, World, failed_task
from tests.pipeline.rollouts import Gates, config, failed

assert config  # the fixture

NO_GATE = "ROLLING has no gate before production"
LIVE = {"alarms": {"alarmNames": ["a"], "enable": True, "rollback": True}, "lifecycleHooks": [{"targetType": "PAUSE"}]}


def by(config, **settings):
    """The same configuration with another rollout."""
    service = config.services["s"]
    chosen = Rollout.model_validate({"start_deadline_s": 60, **settings})
    return config.model_copy(update={"services": {"s": service.model_copy(update={"rollout": chosen})}})


def roll(config, world, *verdicts, lines=None, **more):
    gates = Gates(world, *(verdicts or (Verdict.PASS,)))
    said = [] if lines is None else lines
    return rollout(
        config, world, world.clock, gates.all(), service="s", release_id="v2", task_definition_arn=NEW,
        image_digest=NEW_DIGEST, on_progress=said.append, **more,
    ), gates  # fmt: skip


# --- what may be written


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"strategy": "LINEAR", "canary": {"percent": 5}},
            "`canary` belongs to strategy CANARY, and strategy is LINEAR",
        ),
        ({"strategy": "CANARY", "linear": {}}, "`linear` belongs to strategy LINEAR"),
        ({"canary": {}}, "strategy is BLUE_GREEN; set `strategy: CANARY`, or remove `canary`"),
        ({"strategy": "ROLLING", "linear": {}}, "strategy is ROLLING"),
        ({"strategy": "CANARY", "canary": {"percent": 0}}, "greater than or equal to 0.1"),
        ({"strategy": "CANARY", "canary": {"percent": 101}}, "less than or equal to 100"),
        ({"strategy": "CANARY", "canary": {"percent": 5.55}}, "multiple of 0.1"),
        ({"strategy": "CANARY", "canary": {"bake_minutes": 1441}}, "less than or equal to 1440"),
        ({"strategy": "LINEAR", "linear": {"step_percent": 2.9}}, "greater than or equal to 3"),
        ({"strategy": "LINEAR", "linear": {"step_bake_minutes": -1}}, "greater than or equal to 0"),
        ({"strategy": "SLOWLY"}, "'BLUE_GREEN', 'CANARY', 'LINEAR' or 'ROLLING'"),
    ],
)
def test_settings_have_aws_s_ranges_and_their_own_strategy(settings, words):
    """A mistake is told with what would be right."""
    with pytest.raises(ValidationError, match=words):
        Rollout.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "minutes"),
    [
        ({}, 0),
        ({"strategy": "CANARY"}, 10),
        ({"strategy": "CANARY", "canary": {"bake_minutes": 90}}, 90),
        ({"strategy": "LINEAR"}, 54),
        ({"strategy": "LINEAR", "linear": {"step_percent": 30, "step_bake_minutes": 60}}, 180),
        ({"strategy": "ROLLING"}, 0),
    ],
)
def test_a_deployment_is_waited_for_through_all_its_steps(settings, minutes):
    """Each step's bake counts, the last step's does not: ECS does not wait after it."""
    chosen = Rollout.model_validate(settings)

    assert minutes == chosen.shift_minutes
    assert minutes * 60 == limit_s(chosen) - limit_s(Rollout())


@pytest.mark.parametrize(("tasks", "percent"), [(1, 200), (2, 150), (3, 150), (10, 150)])
def test_rolling_always_has_room_for_one_more_task(tasks, percent):
    """ECS rounds down: a single task needs 200 % to be replaced at all."""
    chosen = Rollout(strategy="ROLLING")

    assert percent == chosen.maximum_percent(tasks)
    assert tasks * percent // 100 > tasks
    assert 200 == Rollout().maximum_percent(tasks)


# --- what UpdateService is sent


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({}, {}),
        (
            {"strategy": "CANARY", "canary": {"percent": 20, "bake_minutes": 3}},
            {"canaryConfiguration": {"canaryPercent": 20, "canaryBakeTimeInMinutes": 3}},
        ),
        ({"strategy": "LINEAR"}, {"linearConfiguration": {"stepPercent": 10, "stepBakeTimeInMinutes": 6}}),
    ],
)
def test_a_shift_is_sent_with_its_own_steps_alone(settings, own):
    """Whatever was live before: the other strategy's steps and the breaker go, hooks and alarms stay."""
    before = {**LIVE, "strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50},
              "canaryConfiguration": {"canaryPercent": 1}, "deploymentCircuitBreaker": {"enable": True}}  # fmt: skip

    sent = configuration(Rollout.model_validate(settings), before, 2)

    assert sent == {
        **LIVE, **own, "strategy": settings.get("strategy", "BLUE_GREEN"), "bakeTimeInMinutes": 10,
        "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        "maximumPercent": 200, "minimumHealthyPercent": 100,
    }  # fmt: skip


def test_rolling_is_sent_with_its_breaker_and_without_hooks():
    """A threshold that somebody set stays."""
    threshold = {"thresholdConfiguration": {"type": "COUNT", "value": 5}}
    before = {**LIVE, "strategy": "CANARY", "bakeTimeInMinutes": 10, "canaryConfiguration": {"canaryPercent": 1},
              "deploymentCircuitBreaker": threshold}  # fmt: skip

    sent = configuration(Rollout(strategy="ROLLING"), before, 2)

    assert sent == {
        "alarms": LIVE["alarms"], "lifecycleHooks": [], "strategy": "ROLLING", "maximumPercent": 150,
        "minimumHealthyPercent": 100,
        "deploymentCircuitBreaker": {"enable": True, "rollback": True, **threshold},
    }  # fmt: skip


# --- CANARY and LINEAR


def test_each_step_of_the_traffic_is_told_once(config):
    """The share of production that the new release has, in percent."""
    world, lines = Stepping(FakeClock(), steps=(25.0, 50.0, 75.0, 100.0)), []

    result, _ = roll(by(config, strategy="LINEAR", linear={"step_percent": 25}), world, lines=lines)

    assert result.status == "SUCCESSFUL"
    assert [line for line in lines if line.startswith("production: ")] == [
        f"production: {percent} % of the requests go to the new release" for percent in (25, 50, 75, 100)
    ]
    assert world.configuration["linearConfiguration"]["stepPercent"] == 25


def test_an_alarm_in_the_first_step_is_a_rollback_from_production(config):
    """A fifth of the requests is production: exit code 4, and the alarm's name."""
    world = Stepping(FakeClock(), steps=(20.0, 100.0), alarm_at="PRODUCTION_TRAFFIC_SHIFT")

    with pytest.raises(RolledBack, match="p-e-s-5xx") as rolled_back:
        roll(by(config, strategy="CANARY", canary={"percent": 20}), world)

    assert rolled_back.value.exit_code == 4


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR"])
def test_a_gate_that_refuses_comes_before_the_first_step(config, strategy):
    """Nothing of production was given: exit code 3."""
    world, lines = Stepping(FakeClock(), steps=(20.0, 100.0)), []

    with pytest.raises(GateRefused):
        roll(by(config, strategy=strategy), world, Verdict.FAIL, lines=lines)

    assert not any(line.startswith("production: ") for line in lines)


def test_ringing_alarms_stand_in_the_result(config):
    """What ECS will not roll back on is named, before anything starts and in what is kept."""
    world, heard = World(FakeClock()), []
    world.alarm_states = {"p-e-s-5xx": "ALARM"}

    result, _ = roll(config, world, on_alarms=lambda names: heard.append((names, world.sent("update_service"))))

    assert ("p-e-s-5xx",) == result.alarms_in_alarm_before
    assert [(("p-e-s-5xx",), [])] == heard


# --- ROLLING


@pytest.fixture
def rolling(config):
    return by(config, strategy="ROLLING")


def test_rolling_is_checked_on_production_once_it_reaches_new_tasks_alone(rolling):
    """No test listener is opened, no hook answered; the output and the result say that there was no gate."""
    world, lines = Rolling(FakeClock()), []

    result, gates = roll(rolling, world, lines=lines)

    ((target, openings, _),) = gates.seen
    assert ("http://lb.example:8080", 0) == (target.url, openings)
    assert [Verdict.PASS] == [gate.verdict for gate in result.gates]
    assert {"new"} == world.healthy_when_judged
    assert NO_GATE in result.note
    assert any(line.startswith(f"WARNING: {NO_GATE}") for line in lines)
    assert [] == world.sent("continue_service_deployment") + world.sent("authorize_security_group_ingress")


def test_a_check_that_fails_stops_a_rolling_deployment(rolling):
    """It is still watched by ECS: one call brings the old tasks back. Users saw the release: exit code 4."""
    world = Rolling(FakeClock())

    with pytest.raises(RolledBack, match="reason 1") as rolled_back:
        roll(rolling, world, Verdict.FAIL)

    assert 1 == len(world.sent("stop_service_deployment"))
    assert "ROLLBACK_SUCCESSFUL" == world.deployments[-1].status
    assert any(NO_GATE in line for line in rolled_back.value.details)


def test_a_check_that_fails_after_the_end_goes_back_by_a_deployment(rolling):
    """ECS has finished and has nothing to stop: what served before is deployed again, and the release does not stay."""
    world = Rolling(FakeClock(), ends_when_judged=True)

    with pytest.raises(RolledBack, match="reason 1"):
        roll(rolling, world, Verdict.FAIL)

    assert [NEW, OLD] == [request["taskDefinition"] for request in world.sent("update_service")]
    assert ("SUCCESSFUL", OLD) == (world.deployments[-1].status, world.deployments[-1].task_definition)


def test_going_back_sends_a_configuration_of_its_own(rolling):
    """What DescribeServices says is not echoed: keys of another strategy are left out, and nothing bakes."""
    world = Rolling(FakeClock(), ends_when_judged=True)
    gates = Gates(world, Verdict.FAIL).all()

    def judge_on_a_service_with_leftovers(target):
        world.configuration |= {"bakeTimeInMinutes": 30, "canaryConfiguration": {"canaryPercent": 5.0}}
        return gates[0](target)

    with pytest.raises(RolledBack):
        rollout(
            rolling, world, world.clock, [judge_on_a_service_with_leftovers], service="s", release_id="v2",
            task_definition_arn=NEW, image_digest=NEW_DIGEST,
        )  # fmt: skip

    _, back = world.sent("update_service")
    sent = back["deploymentConfiguration"]
    assert set() == {"bakeTimeInMinutes", "canaryConfiguration"} & set(sent)
    assert ("ROLLING", ["p-e-s-5xx"]) == (sent["strategy"], sent["alarms"]["alarmNames"])


@pytest.mark.parametrize(("strategy", "is_kept"), [("ROLLING", True), ("BLUE_GREEN", False), ("LINEAR", False)])
def test_early_success_criteria_stay_with_rolling_alone(strategy, is_kept):
    """AWS has them for rolling deployments: somebody's own stay there, and do not follow to another strategy."""
    live = {**LIVE, "strategy": "ROLLING", "earlySuccessCriteria": {"percent": 50}}

    sent = configuration(Rollout(strategy=strategy), live, 2)

    assert is_kept == ("earlySuccessCriteria" in sent)


def test_going_back_that_fails_needs_a_person(rolling):
    """Neither release can be said to serve: exit code 5."""
    world = Rolling(FakeClock(), ends_when_judged=True, going_back_fails=True)

    with pytest.raises(StateUnknown, match="going back from it failed as well"):
        roll(rolling, world, Verdict.FAIL)


def test_a_rolling_release_that_never_answers_was_never_in_production(rolling):
    """Its tasks crash before the load balancer gives them a request: exit code 3, with their last lines."""
    world = Rolling(FakeClock(), stays_at="SCALE_UP")
    world.stopped = [failed(n, world) for n in (1, 2, 3)]

    with pytest.raises(GateRefused, match="3 tasks of the new revision failed") as refused:
        roll(rolling, world)

    assert "  | Traceback: no module named torch" in refused.value.details
    assert 1 == len(world.sent("stop_service_deployment"))


def test_a_rolling_release_of_which_one_task_answers_was_in_production(rolling):
    """One healthy new task is enough for users to reach it: exit code 4."""
    world = Rolling(FakeClock(), stays_at="SCALE_UP", healthy_in_scale_up=("old", "new"))

    def fail(line):
        if "SCALE_UP" in line:
            later = world.clock.now()
            world.stopped = [failed_task(n, later) for n in (1, 2, 3)]

    with pytest.raises(RolledBack, match="3 tasks of the new revision failed"):
        rollout(
            rolling, world, world.clock, [], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST, on_progress=fail,
        )  # fmt: skip


def test_ctrl_c_before_the_check_of_a_rolling_release_rolls_back(rolling):
    """Nobody else would check it: it does not stay unjudged."""
    world = Rolling(FakeClock())

    def interrupted(_target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(
            rolling, world, world.clock, [interrupted], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST,
        )  # fmt: skip

    assert 1 == len(world.sent("stop_service_deployment"))


def test_a_change_to_rolling_waits_for_its_stack(rolling):
    """The service must name the group that serves first, or tasks might start where no request goes."""
    world = World(FakeClock())

    with pytest.raises(GateRefused, match="still deployed by BLUE_GREEN") as refused:
        roll(rolling, world)

    assert "onnxship deploy" in refused.value.remedy
    assert [] == world.sent("update_service")


def test_a_stop_that_is_refused_while_the_deployment_runs_is_no_rollback(rolling):
    """The error is AWS's own; nothing is claimed of what serves."""
    world = Rolling(FakeClock())
    world.refuse["stop_service_deployment"] = AwsError("denied", "allow it", code="AccessDeniedException")

    with pytest.raises(AwsError, match="denied"):
        roll(rolling, world, Verdict.FAIL)


def test_a_gate_that_breaks_off_in_rolling_is_no_pass(rolling):
    """A check that cannot judge takes the release back, too."""
    world = Rolling(FakeClock())

    def broken(_target):
        raise AwsError("connection reset", "try again")

    with pytest.raises(RolledBack, match="could not be judged"):
        rollout(
            rolling, world, world.clock, [broken], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST,
        )  # fmt: skip
