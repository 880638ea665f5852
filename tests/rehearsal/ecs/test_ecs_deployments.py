"""The service-deployment state machine against AWS's documented sequence, on a turned clock."""

from __future__ import annotations

import pytest

from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Interruption

PAUSE = {
    "targetType": "PAUSE",
    "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"],
    "timeoutConfiguration": {"timeoutInMinutes": 10, "action": "ROLLBACK"},
}
STAGES = [
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
]
BREAKER = {"enable": True, "rollback": True}
ALARMS = {"alarmNames": ["5xx"], "enable": True, "rollback": True}
ALL_GREEN, ALL_BLUE = {"green": 100, "blue": 0.0}, {"blue": 100.0, "green": 0.0}


def stop(deployment, kind="ROLLBACK"):
    deployment.interruption = Interruption(kind, "asked to")


def at(deployment, stage, do):
    """A script that acts once, when the deployment is at a stage."""
    done = []

    def script():
        if deployment.stage == stage and not done:
            done.append(stage)
            do()

    return script


def test_a_blue_green_deployment_passes_the_documented_stages_in_order(world):
    """Blue/green visits AWS's stages in AWS's order and leaves blue without tasks."""
    blue = world.released()
    deployment, rollout = world.rollout()
    world.play(rollout)
    assert deployment.seen_stage == STAGES
    assert deployment.seen_status == ["PENDING", "IN_PROGRESS", "SUCCESSFUL"]
    assert world.service.tasks_of(blue) == []
    assert world.service.current is deployment.target


def test_the_test_rule_moves_before_the_production_rule_and_both_only_to_healthy_tasks(world):
    """No weight ever reaches a target group whose tasks do not all answer."""
    world.released()
    _, rollout = world.rollout()
    world.play(rollout)
    assert world.shifts == [("test", ALL_GREEN, 2), ("production", ALL_GREEN, 2)]


def test_production_waits_while_one_green_task_is_not_healthy(world):
    """One green task that turns unhealthy at the gate holds the production shift back."""
    world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])

    def script():
        if world.open_hooks(deployment):
            world.service.tasks_of(deployment.target)[0].target_health = "unhealthy"
            deployment.hooks[0].status = "SUCCEEDED"
            script.held_until = world.clock.time() + 30
        elif deployment.stage == "PRODUCTION_TRAFFIC_SHIFT" and world.clock.time() >= script.held_until:
            world.service.tasks_of(deployment.target)[0].target_health = "healthy"

    world.each_tick = script
    world.play(rollout)
    assert world.shifts[-1] == ("production", ALL_GREEN, 2)
    assert deployment.finished_at >= script.held_until


def test_a_pause_hook_holds_production_until_it_is_continued(world):
    """While a PAUSE hook waits, production stays where it was; CONTINUE lets it move."""
    world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])
    begun = world.clock.time()

    def script():
        if world.clock.time() - begun > 540 and world.open_hooks(deployment):
            assert world.weights_of("production") == []
            assert deployment.stage == "POST_TEST_TRAFFIC_SHIFT"
            deployment.hooks[0].status = "SUCCEEDED"

    world.each_tick = script
    world.play(rollout)
    assert deployment.status == "SUCCESSFUL"
    assert world.weights_of("production") == [ALL_GREEN]


def test_a_pause_hook_that_is_rolled_back_never_gives_production_weight(world):
    """ROLLBACK at the gate takes the test rule back and stops green; production never moved."""
    blue = world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])

    def refuse():
        deployment.hooks[0].status = "FAILED"

    world.each_tick = at(deployment, "POST_TEST_TRAFFIC_SHIFT", refuse)
    world.play(rollout)
    assert deployment.seen_status == ["PENDING", "IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_SUCCESSFUL"]
    assert {"blue": 100.0, "green": 0.0} == world.weights_of("test")[-1]
    assert all(weights == ALL_BLUE for weights in world.weights_of("production"))
    assert len(world.service.tasks_of(blue)) == 2
    assert world.service.remaining(deployment.target) == []
    assert world.service.spec["taskDefinition"] == "f:1"


def test_a_pause_hook_times_out_in_real_minutes_and_rolls_back(world):
    """Nobody answers: after ten uncompressed minutes the deployment goes back by itself, in AWS's words."""
    world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])
    begun = world.clock.time()
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert deployment.hooks[0].status == "TIMED_OUT"
    assert deployment.status_reason == (
        "Service deployment rolled back because POST_TEST_TRAFFIC_SHIFT pause hook timed out."
    )
    assert deployment.rollback_started_at - begun > 600


def test_a_pause_hook_whose_timeout_says_continue_continues(world):
    """timeoutConfiguration.action CONTINUE goes on to production when time is over."""
    world.released()
    hook = {**PAUSE, "timeoutConfiguration": {"timeoutInMinutes": 1, "action": "CONTINUE"}}
    deployment, rollout = world.rollout(lifecycleHooks=[hook])
    world.play(rollout)
    assert (deployment.status, deployment.hooks[0].status) == ("SUCCESSFUL", "TIMED_OUT")


def test_an_alarm_during_bake_brings_the_weights_back(world):
    """An alarm after the shift returns both rules to blue, whose tasks were never stopped."""
    blue = world.released()
    deployment, rollout = world.rollout(alarms=ALARMS)
    world.each_tick = at(deployment, "BAKE_TIME", lambda: world.alarms.append("5xx"))
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert (deployment.alarms_status, deployment.triggered_alarms) == ("TRIGGERED", ["5xx"])
    assert world.weights_of("production") == [ALL_GREEN, ALL_BLUE]
    assert [2, 2] == [healthy for rule, _, healthy in world.shifts if rule == "production"]
    assert len(world.service.tasks_of(blue)) == 2


@pytest.mark.parametrize(
    ("behaviour", "status", "monitoring"),
    [("ignore", "SUCCESSFUL", "DISABLED"), ("roll back", "ROLLBACK_SUCCESSFUL", "TRIGGERED")],
)
def test_an_alarm_that_was_in_alarm_before_is_ignored_or_not_as_the_switch_says(world, behaviour, status, monitoring):
    """Both readings of "already in ALARM at the start" can be rehearsed."""
    world.released()
    world.alarms.append("5xx")
    deployment, rollout = world.rollout(OpenQuestions(alarm_already_in_alarm=behaviour), alarms=ALARMS)
    world.play(rollout)
    assert (deployment.status, deployment.alarms_status) == (status, monitoring)


@pytest.mark.parametrize("stage", ["SCALE_UP", "BAKE_TIME"])
def test_stopping_with_rollback_works_before_and_after_the_shift(world, stage):
    """StopServiceDeployment(ROLLBACK) ends with blue in production and green gone, wherever it comes."""
    blue = world.released()
    deployment, rollout = world.rollout()
    world.each_tick = at(deployment, stage, lambda: stop(deployment))
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert blue.production_weight == 100.0
    assert world.weights_of("production")[-1] == ALL_BLUE
    assert (len(world.service.tasks_of(blue)), world.service.remaining(deployment.target)) == (2, [])


def test_a_deployment_that_is_stopped_before_it_began_leaves_the_service_as_it_was(world):
    """PENDING, then asked to roll back: nothing is started, and the released revision is the candidate."""
    blue = world.released()
    deployment, rollout = world.rollout()
    stop(deployment)
    world.play(rollout)
    assert (deployment.status, world.shifts) == ("ROLLBACK_SUCCESSFUL", [])
    assert (world.service.primary, len(world.service.tasks_of(blue))) == (blue, 2)


def test_stopping_during_clean_up_starts_blue_again_before_traffic_returns(world):
    """With blue on its way out already, a rollback shifts only when a new blue answers."""
    blue = world.released()
    world.drains_slowly = True
    deployment, rollout = world.rollout()

    def ask():
        stop(deployment)
        world.drains_slowly = False

    world.each_tick = at(deployment, "CLEAN_UP", ask)
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert [shift for shift in world.shifts if shift[0] == "production"] == [
        ("production", ALL_GREEN, 2),
        ("production", ALL_BLUE, 2),
    ]
    assert len(world.service.healthy(blue)) == 2


def test_an_abort_stops_where_it_stands(world):
    """ABORT moves nothing back: the deployment is STOPPED and both revisions keep their tasks."""
    blue = world.released()
    deployment, rollout = world.rollout(lifecycleHooks=[PAUSE])
    world.each_tick = at(deployment, "POST_TEST_TRAFFIC_SHIFT", lambda: stop(deployment, "STOP"))
    world.play(rollout)
    assert deployment.seen_status == ["PENDING", "IN_PROGRESS", "STOP_REQUESTED", "STOPPED"]
    assert (len(world.service.tasks_of(blue)), len(world.service.tasks_of(deployment.target))) == (2, 2)


def test_a_deployment_after_an_unfinished_one_reconciles_first(world):
    """With two revisions active the next deployment drains the unfinished one, then takes its target group."""
    world.released()
    unfinished, rollout = world.rollout()
    world.each_tick = at(unfinished, "BAKE_TIME", lambda: stop(unfinished, "STOP"))
    world.play(rollout)
    world.shifts.clear()
    deployment, rollout = world.rollout()
    world.play(rollout)
    assert deployment.seen_stage == ["RECONCILE_SERVICE", *STAGES]
    assert world.weights_of("production") == [ALL_BLUE, ALL_GREEN]
    assert deployment.target.slots[0].target_group == "green"
    assert world.service.remaining(unfinished.target) == []


def test_the_breaker_trips_at_its_threshold_and_rolls_back(world):
    """Three failed tasks of green trip the default breaker, in the words AWS was seen to use."""
    world.released()
    deployment, rollout = world.rollout(deploymentCircuitBreaker=BREAKER)
    world.healthy = False

    def fail():
        deployment.failures += 1

    world.each_tick = fail
    world.play(rollout)
    assert (deployment.status, deployment.breaker_status) == ("ROLLBACK_SUCCESSFUL", "TRIGGERED")
    assert (deployment.failures >= 3, deployment.threshold) == (True, 3)
    assert deployment.status_reason == (
        "Service deployment rolled back because the circuit breaker threshold was exceeded."
    )


def test_a_breaker_without_rollback_stops_and_starts_no_more_tasks(world):
    """Without the rollback option a tripped breaker leaves the deployment STOPPED and green frozen."""
    world.released()
    deployment, rollout = world.rollout(deploymentCircuitBreaker={"enable": True, "rollback": False})
    world.healthy = False
    world.each_tick = lambda: setattr(deployment, "failures", deployment.failures + 1)
    world.play(rollout)
    assert deployment.status == "STOPPED"
    assert deployment.target.wanted(10) == len(world.service.tasks_of(deployment.target))


def test_the_breaker_can_be_told_to_watch_rolling_deployments_only(world):
    """The other reading of API_DeploymentCircuitBreaker: blue/green goes on despite failures."""
    world.released()
    questions = OpenQuestions(breaker_under_blue_green=False)
    deployment, rollout = world.rollout(questions, deploymentCircuitBreaker=BREAKER)
    deployment.failures = 50
    world.play(rollout)
    assert (deployment.status, deployment.breaker_status) == ("SUCCESSFUL", "DISABLED")


@pytest.mark.parametrize(
    ("questions", "status", "tasks"),
    [
        (OpenQuestions(), "ROLLBACK_FAILED", 0),
        (OpenQuestions(failed_first_deployment="STOPPED"), "STOPPED", 0),
        (OpenQuestions(failed_first_deployment_keeps_tasks=True), "ROLLBACK_FAILED", 2),
    ],
)
def test_a_failed_first_deployment_has_nothing_to_go_back_to(world, questions, status, tasks):
    """A refused creation ends as the switch says, and says that there was no candidate."""
    deployment, rollout = world.rollout(questions, lifecycleHooks=[PAUSE])

    def refuse():
        deployment.hooks[0].status = "FAILED"

    world.each_tick = at(deployment, "POST_TEST_TRAFFIC_SHIFT", refuse)
    world.play(rollout)
    assert (deployment.status, len(world.service.tasks_of(deployment.target))) == (status, tasks)
    assert deployment.status_reason == "No rollback candidate was found to run the rollback."
    assert "deployment failed: Service deployment rolled back because" in world.events[-1]
    assert world.weights_of("production") == []


def test_hooks_at_creation_can_be_switched_off(world):
    """The other reading: the first deployment of a service passes its hooks by."""
    deployment, rollout = world.rollout(OpenQuestions(hooks_at_creation=False), lifecycleHooks=[PAUSE])
    world.play(rollout)
    assert (deployment.status, deployment.hooks) == ("SUCCESSFUL", [])


def test_the_test_rule_can_stay_on_green_after_a_rollback(world):
    """The other reading of an undocumented point: only production goes back."""
    world.released()
    deployment, rollout = world.rollout(OpenQuestions(test_rule_returns_on_rollback=False))
    world.each_tick = at(deployment, "BAKE_TIME", lambda: stop(deployment))
    world.play(rollout)
    assert world.weights_of("test") == [ALL_GREEN]


def test_rules_that_cannot_carry_the_deployment_end_it_in_awss_words(world):
    """A rule without both target groups rolls the deployment back before any task starts."""
    world.released()
    problem = ". Both targetGroup and alternateTargetGroup must be associated with the productionListenerRule"
    world.network_problem = problem
    deployment, rollout = world.rollout()
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert deployment.status_reason == (
        f"Service deployment rolled back because of invalid networking configuration{problem}"
    )
    assert world.service.tasks_of(deployment.target) == []


def test_a_canary_bakes_between_its_two_steps(world):
    """CANARY gives its percentage, bakes, gives the rest; a hook before production fires at each step."""
    world.released()
    hook = {**PAUSE, "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"]}
    canary = {"canaryPercent": 10, "canaryBakeTimeInMinutes": 30}
    deployment, rollout = world.rollout(strategy="CANARY", canaryConfiguration=canary, lifecycleHooks=[hook])

    def go_on():
        for waiting in world.open_hooks(deployment):
            waiting.status = "SUCCEEDED"

    world.each_tick = go_on
    begun = world.clock.time()
    world.play(rollout)
    assert world.weights_of("production") == [{"green": 10.0, "blue": 90.0}, ALL_GREEN]
    assert len({hook.id for hook in deployment.hooks}) == 2
    assert world.clock.time() - begun >= 31 * 2.0


def test_linear_steps_add_up_to_everything(world):
    """LINEAR adds its step until production is all green, the last step taking the rest."""
    world.released()
    linear = {"stepPercent": 30, "stepBakeTimeInMinutes": 1}
    _, rollout = world.rollout(strategy="LINEAR", linearConfiguration=linear)
    world.play(rollout)
    assert [weights["green"] for weights in world.weights_of("production")] == [30.0, 60.0, 90.0, 100.0]


@pytest.mark.parametrize(("at_least", "at_most"), [(100, 200), (100, 150), (50, 100), (0, 100)])
def test_a_rolling_update_stays_within_its_percentages(world, at_least, at_most):
    """At every moment enough tasks are healthy and not too many run."""
    world.service.desired_count = 4
    blue = world.released()
    limits = {"minimumHealthyPercent": at_least, "maximumPercent": at_most}
    deployment, rollout = world.rollout(strategy="ROLLING", **limits)
    counts = []

    def look():
        live = [task for task in world.service.tasks if task.live]
        counts.append((len(world.service.healthy(blue)) + len(world.service.healthy(deployment.target)), len(live)))

    world.each_tick = look
    world.play(rollout)
    assert deployment.status == "SUCCESSFUL"
    assert min(healthy for healthy, _ in counts) >= 4 * at_least / 100
    assert max(live for _, live in counts) <= 4 * at_most / 100


def test_a_rolling_update_that_trips_its_breaker_keeps_the_old_tasks(world):
    """With unhealthy new tasks the old ones never stop, and the service ends where it began."""
    blue = world.released()
    deployment, rollout = world.rollout(strategy="ROLLING", deploymentCircuitBreaker=BREAKER)
    world.healthy = False
    healthy_blue = []

    def fail():
        deployment.failures += 1
        healthy_blue.append(len(world.service.healthy(blue)))

    world.each_tick = fail
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    assert set(healthy_blue) == {2}
    assert world.service.remaining(deployment.target) == []
    assert world.service.spec["taskDefinition"] == "f:1"


def test_a_scaled_service_deploys_at_its_new_size(world):
    """A desired count that changes during a deployment is what green must reach."""
    world.released()
    deployment, rollout = world.rollout()
    world.each_tick = at(deployment, "SCALE_UP", lambda: setattr(world.service, "desired_count", 5))
    world.play(rollout)
    assert world.weights_of("production") == [ALL_GREEN]
    assert len(world.service.healthy(deployment.target)) == 5
