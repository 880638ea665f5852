"""The first release: the deployment that a service's creation is, gated between CloudFormation's own polls."""

import pytest

from pipeline.config import Rollout
from pipeline.errors import GateRefused, RolledBack
from pipeline.results import GateResult, Verdict
from pipeline.stages.rollout import FirstRollout
from tests.pipeline.ecs_rolling_world import CreatingRolling
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, Creating


@pytest.fixture
def config(configure):
    """The gate's caller is known, so nobody is asked for it."""
    return configure(gate__from="runner", gate__runner_cidr="192.0.2.7/32")


@pytest.fixture
def world(clock) -> Creating:
    return Creating(clock)


def first(config, world, verdict: Verdict, seen: list) -> FirstRollout:
    def gate(target):
        seen.append(target.url)
        return GateResult("golden", verdict, "because")

    return FirstRollout(config, world, world.clock, [gate], "tiny", "v1", NEW, NEW_DIGEST)


def test_the_gate_is_answered_while_cloudformation_creates_the_service(config, world):
    """Nothing happens before ECS knows the service; then the hook is answered as in every release."""
    seen: list[str] = []
    rollout = first(config, world, Verdict.PASS, seen)

    assert [rollout.step(), rollout.step()] == [False, False]
    world.create_service()
    while not rollout.step():
        world.clock.sleep(1)

    assert rollout.finish().status == "SUCCESSFUL"
    assert seen == ["http://lb.example:9000"]
    assert not rollout.refused


def test_a_first_revision_with_all_the_weight_is_gated_all_the_same(config, world):
    """ECS may give the only revision its production weight at once; its hook still waits for an answer."""
    world.weight_of_the_first = 100.0
    world.create_service()
    rollout = first(config, world, Verdict.FAIL, [])

    while not rollout.step():
        world.clock.sleep(1)

    assert [r["action"] for r in world.sent("continue_service_deployment")] == ["ROLLBACK"]
    with pytest.raises(GateRefused, match="because"):
        rollout.finish()


def test_without_a_hook_at_creation_the_gate_runs_on_production(config, world):
    """Success is declared only after the gate, wherever it could run."""
    world.has_hook = False
    world.create_service()
    seen: list[str] = []

    result = first(config, world, Verdict.PASS, seen).finish()

    assert seen == ["http://lb.example"]
    assert [gate.verdict for gate in result.gates] == [Verdict.PASS]


def test_what_fails_its_gate_on_production_does_not_stay(config, world):
    """It serves, and it should not; there is nothing to go back to, so its stack goes: exit code 4."""
    world.has_hook = False
    world.create_service()

    with pytest.raises(RolledBack, match="gate `golden` refused"):
        first(config, world, Verdict.FAIL, []).finish()

    assert [config.stack_name("service", "tiny")] == [one["StackName"] for one in world.sent("delete_stack")]


def test_a_refused_first_release_never_serves(config, world):
    """ECS has nothing to go back to and says ROLLBACK_FAILED; for us it is a refusal, exit code 3."""
    world.create_service()
    world.rollback_status = "ROLLBACK_FAILED"
    rollout = first(config, world, Verdict.FAIL, [])

    while not rollout.step():
        world.clock.sleep(1)

    assert rollout.refused
    with pytest.raises(GateRefused, match="because") as refused:
        rollout.finish()
    assert "nothing serves now" in refused.value.details[-1]


def test_a_refused_first_release_whose_service_is_removed_is_still_a_refusal(config, world):
    """CloudFormation deletes the service it could not create; the reason is not lost with it."""
    world.create_service()
    world.stays_in_rollback = True
    rollout = first(config, world, Verdict.FAIL, [])
    while not rollout.refused:
        rollout.step()
    world.deployments.clear()

    with pytest.raises(GateRefused, match="because"):
        rollout.finish()


def test_cloudformation_does_not_wait_for_a_refused_service_for_a_day_and_a_half(config, world):
    """ECS never ends the refused deployment: after two minutes the wait is broken off, and the stack deleted."""
    world.create_service()
    world.stack_status = "CREATE_IN_PROGRESS"
    world.stays_in_rollback = True
    rollout = first(config, world, Verdict.FAIL, [])

    def create_stack() -> None:
        while world.clock.slept_s < 36 * 3600:
            rollout.step()
            world.clock.sleep(5)

    with pytest.raises(GateRefused, match="because"):
        create_stack()
    assert world.sent("delete_stack") == []
    with pytest.raises(GateRefused, match="because"):
        rollout.finish()
    assert world.clock.slept_s < 300
    assert [request["StackName"] for request in world.sent("delete_stack")] == [config.stack_name("service", "tiny")]


def test_an_interrupted_creation_leaves_no_stack_that_waits(config, world):
    """Nobody will answer the hook any more, and nothing was serving before: the half-created stack goes."""
    world.stack_status = "CREATE_IN_PROGRESS"
    rollout = first(config, world, Verdict.PASS, [])
    rollout.step()

    rollout.abandon()

    assert world.stack_status == "DELETE_COMPLETE"


def test_an_interruption_after_the_gate_lets_the_creation_go_on(config, world):
    """The first release has passed and serves: ECS bakes on, and the stack completes by itself."""
    world.create_service()
    world.stack_status = "CREATE_IN_PROGRESS"
    rollout = first(config, world, Verdict.PASS, [])
    while not world.sent("continue_service_deployment"):
        rollout.step()

    rollout.abandon()

    assert world.sent("delete_stack") == []


@pytest.fixture
def rolling(config):
    service = config.services["tiny"].model_copy(update={"rollout": Rollout(strategy="ROLLING")})
    return config.model_copy(update={"services": {"tiny": service}})


def test_a_first_release_by_rolling_is_checked_on_production(rolling, clock):
    """It serves from its start; the output says so, and the check comes when it does."""
    world, seen, lines = CreatingRolling(clock), [], []
    world.create_service()
    rollout = first(rolling, world, Verdict.PASS, seen)
    rollout.on_progress = lines.append
    while not rollout.step():
        world.clock.sleep(1)

    result = rollout.finish()

    assert ["http://lb.example"] == seen
    assert "ROLLING has no gate" in result.note
    assert any("ROLLING has no gate" in line for line in lines)
    assert world.sent("delete_stack") == []


@pytest.mark.parametrize("ends_when_judged", [False, True])
def test_a_first_release_by_rolling_that_fails_its_check_does_not_stay(rolling, clock, ends_when_judged):
    """There is nothing to go back to, so its stack goes, finished or not; users may have seen it: exit code 4."""
    world = CreatingRolling(clock, rollback_status="ROLLBACK_FAILED", ends_when_judged=ends_when_judged)
    world.create_service()
    rollout = first(rolling, world, Verdict.FAIL, [])
    while not rollout.step():
        world.clock.sleep(1)

    with pytest.raises(RolledBack, match="because"):
        rollout.finish()

    assert [rolling.stack_name("service", "tiny")] == [request["StackName"] for request in world.sent("delete_stack")]


def test_a_service_that_cloudformation_never_created_is_a_refusal(config, world):
    """Its reason stands in CloudFormation's events."""
    with pytest.raises(GateRefused, match="never started"):
        first(config, world, Verdict.PASS, []).finish()
