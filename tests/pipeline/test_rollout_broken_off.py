"""A rollout whose run is interrupted, killed, overtaken or cut off: what is left to ECS, and what is taken up."""

import pytest

from pipeline.errors import AwsError, GateRefused, Locked, RolledBack
from pipeline.results import GateResult, Verdict
from pipeline.stages.rollout import rollout
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, World
from tests.pipeline.rollouts import config, roll, world

assert all([config, world])  # the fixtures


def test_the_deployment_of_a_killed_run_is_taken_up(config, world):
    """The same release again while its deployment runs: no second UpdateService, the gate is answered."""
    world.start(NEW)

    result, _ = roll(config, world)

    assert result.deployment_arn == "dep/2"
    assert world.sent("update_service") == []
    assert len(result.gates) == 1


def test_a_finished_deployment_whose_run_died_only_gets_its_result(config, world):
    """ECS already runs the task definition: nothing is started, and the gates judge production."""
    moving = world.start(NEW)
    moving.status, moving.at = "SUCCESSFUL", 9

    result, gates = roll(config, world)

    assert world.sent("update_service") == []
    assert gates.seen[0][0].url == "http://lb.example:8080"
    assert result.status == "SUCCESSFUL"


def test_ctrl_c_before_production_shifts_rolls_back_once(config, world):
    """One StopServiceDeployment, then the interruption goes on its way."""

    def interrupted(_target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(
            config, world, world.clock, [interrupted], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST,
        )  # fmt: skip

    assert [r["stopType"] for r in world.sent("stop_service_deployment")] == ["ROLLBACK"]
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"
    assert (world.ingress, world.scale_out_suspended) == ({}, False)


def test_ctrl_c_after_production_shifted_lets_ecs_bake_on(config, world):
    """No call is made, and the output says that ECS goes on by itself."""
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if "BAKE_TIME" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(
            config, world, world.clock, [lambda _: GateResult("g", Verdict.PASS, "")], service="s", release_id="v2",
            task_definition_arn=NEW, image_digest=NEW_DIGEST, on_progress=tell,
        )  # fmt: skip

    assert world.sent("stop_service_deployment") == []
    assert "bakes on" in lines[-1]


def test_an_interruption_between_refusal_and_rollback_still_stops_the_deployment(config, world):
    """The gate has refused, Ctrl-C comes before the answer: nothing was sent yet, so what is left is one stop."""

    def interrupted(what: str) -> None:
        if "ROLLBACK" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roll(config, world, Verdict.FAIL, intend=interrupted)

    assert [r["stopType"] for r in world.sent("stop_service_deployment")] == ["ROLLBACK"]
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"


def test_a_run_that_lost_its_lock_changes_nothing_more(config, world):
    """Its deployment still waits at the gate: it is left to whoever has the lock, or to ECS's time-out. Exit 7."""

    def lost(what: str) -> None:
        if "Continue" in what:
            raise Locked("taken over", "wait")

    with pytest.raises(Locked):
        roll(config, world, Verdict.PASS, intend=lost)

    assert [] == world.sent("stop_service_deployment") + world.sent("continue_service_deployment")


def test_a_run_whose_deployment_was_stopped_by_another_ends_as_its_release_did(config, world):
    """It lost the lock at the gate and its deployment goes back: refused, exit 3, and it only looks on."""

    def stopped(what: str) -> None:
        if "Continue" in what:
            world.deployments[-1].status = "STOP_REQUESTED"
            raise Locked("The lock was taken by ann", "wait")

    with pytest.raises(GateRefused, match=r"stopped before production saw it: .* taken by ann") as ended:
        roll(config, world, Verdict.PASS, intend=stopped)

    assert (True, True) == (ended.value.is_elsewhere, ended.value.remedy.startswith("ask them why"))
    assert [] == world.sent("stop_service_deployment") + world.sent("continue_service_deployment")
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INCONCLUSIVE])
def test_a_deployment_that_is_taken_from_under_its_gate_was_not_refused_by_this_run(config, world, verdict):
    """A rollback stopped it, and the gate's task with it; the lock is not taken yet. Who did it may say more."""

    def gate(_target):
        world.call("ecs", "stop_service_deployment", serviceDeploymentArn="dep/2", stopType="ROLLBACK")
        world.refuse["continue_service_deployment"] = AwsError("no such hook", "", code="InvalidParameterException")
        return GateResult("load", verdict, "the gate's task was stopped")

    with pytest.raises(GateRefused) as ended:
        rollout(
            config, world, world.clock, [gate], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST,
        )  # fmt: skip

    assert ended.value.is_elsewhere
    assert (verdict is Verdict.PASS) == ("stopped by user" in ended.value.what)


def test_a_deployment_that_somebody_stops_while_it_bakes_says_where_to_look(config, world):
    """ECS's words, and `history` for the rest; there is nothing to correct."""

    def stop(line: str) -> None:
        if "BAKE_TIME" in line:
            world.call("ecs", "stop_service_deployment", serviceDeploymentArn="dep/2", stopType="ROLLBACK")

    with pytest.raises(RolledBack, match="taken back: stopped by user") as ended:
        rollout(
            config, world, world.clock, [lambda _: GateResult("g", Verdict.PASS, "")], service="s", release_id="v2",
            task_definition_arn=NEW, image_digest=NEW_DIGEST, on_progress=stop,
        )  # fmt: skip

    assert ended.value.is_elsewhere
    assert ended.value.remedy.startswith("if a person stopped it, `onnxship history --env e --service s` says who")


class AnswerLost(World):
    """ContinueServiceDeployment is carried out, but its answer never arrives; ECS then takes its time to go on."""

    lingers = 0

    def _continue_service_deployment(self, **request):
        super()._continue_service_deployment(**request)
        self.lingers = 20
        raise AwsError("ecs:continue_service_deployment failed: Read timeout", "try again")

    def _move(self, d):
        if self.lingers > 0 and d.status == "IN_PROGRESS":
            self.lingers -= 1
            return
        super()._move(d)


def test_a_lost_answer_to_continue_is_no_reason_to_stop_what_passed_its_gate(config):
    """The start deadline passes while ECS shifts: it was met when the gate ran, and stops nothing any more."""
    world = AnswerLost(FakeClock())

    result, _ = roll(config, world)

    assert result.status == "SUCCESSFUL"
    assert world.sent("stop_service_deployment") == []


class Throttled(World):
    """Some of its answers about deployments are refused with `code`."""

    refused_looks = (3, 5)
    code = "ThrottlingException"
    looks = 0

    def _describe_service_deployments(self, serviceDeploymentArns):  # noqa: N803
        self.looks += 1
        if self.looks in self.refused_looks:
            raise AwsError("refused", "wait", code=self.code)
        return super()._describe_service_deployments(serviceDeploymentArns)


def test_a_throttled_look_is_repeated(config):
    """A refused look decides nothing; the next one goes on."""
    result, _ = roll(config, Throttled(FakeClock()))

    assert result.status == "SUCCESSFUL"


def test_an_expired_token_ends_the_run_and_leaves_production_alone(config):
    """What cannot get better by waiting is exit code 6, and production never shifts."""
    world = Throttled(FakeClock())
    world.code = "ExpiredTokenException"

    with pytest.raises(AwsError, match="refused"):
        roll(config, world)

    assert world.sent("continue_service_deployment") == []
    assert len(world.sent("stop_service_deployment")) == 1
