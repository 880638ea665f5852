"""Rollout: an ECS deployment followed, gated and judged, against a small ECS made by hand."""

from datetime import timedelta

import pytest

from pipeline.errors import AwsError, GateRefused, Locked, RolledBack, StateUnknown
from pipeline.results import GateResult, Verdict
from pipeline.stages.rollout import UpdateRollout, rollout
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, OTHER, World
from tests.pipeline.rollouts import Gates, config, roll, world

assert all([config, world])  # the fixtures


def test_a_release_that_passes_its_gates_goes_live(config, world):
    """All gates pass: CONTINUE is sent once, ECS finishes, and every stage's time is in the result."""
    result, gates = roll(config, world, Verdict.PASS, Verdict.PASS)

    assert (result.status, result.task_definition_arn, result.image_digest) == ("SUCCESSFUL", NEW, NEW_DIGEST)
    assert result.production_url == "http://lb.example:8080"
    assert [gate.verdict for gate in result.gates] == [Verdict.PASS, Verdict.PASS]
    (sent,) = world.sent("update_service")
    assert (sent["cluster"], sent["service"], sent["taskDefinition"]) == ("c", "svc", NEW)
    assert sent["deploymentConfiguration"]["lifecycleHooks"][0]["lifecycleStages"] == ["POST_TEST_TRAFFIC_SHIFT"]
    assert sent["deploymentConfiguration"]["bakeTimeInMinutes"] == 10
    assert [r["action"] for r in world.sent("continue_service_deployment")] == ["CONTINUE"]
    stages = [span.stage for span in result.stages]
    assert stages.index("SCALE_UP") < stages.index("POST_TEST_TRAFFIC_SHIFT") < stages.index("BAKE_TIME")
    assert len(gates.seen) == 2


def test_the_gate_reaches_the_test_listener_only_while_it_runs(config, world):
    """During the gate: secret header, one tagged rule, no scale-out; afterwards all three are gone."""
    _, gates = roll(config, world)

    target, open_rules, suspended = gates.seen[0]
    assert (target.url, target.headers) == ("http://lb.example:9000", {"X-Onnxship-Gate": "sesame"})
    assert (open_rules, suspended) == (1, True)
    assert (world.ingress, world.scale_out_suspended) == ({}, False)
    permission = world.sent("authorize_security_group_ingress")[0]["IpPermissions"][0]
    assert (permission["FromPort"], permission["ToPort"]) == (9000, 9000)
    assert permission["IpRanges"][0]["CidrIp"] == "192.0.2.7/32"


def test_what_a_killed_run_left_open_is_closed_at_the_next_gate(config, world):
    """Expired rules and this service's own are revoked; another service's open gate and rules not ours stay."""
    ended = (world.clock.now() - timedelta(minutes=1)).isoformat()
    valid = (world.clock.now() + timedelta(hours=1)).isoformat()
    rules = {
        "expired": {"onnxship:gate:other": ended},
        "own": {"onnxship:gate:svc": valid},
        "others": {"onnxship:gate:other": valid},
        "production": {},
    }
    for rule_id, tags in rules.items():
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        world.ingress[rule_id] = {"SecurityGroupRuleId": rule_id, "Tags": listed}

    roll(config, world)

    assert set(world.ingress) == {"others", "production"}


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_gate_that_does_not_pass_refuses_the_release(config, world, verdict):
    """Anything but PASS answers ROLLBACK; the error says its reason once, and what passed; later gates do not run."""
    with pytest.raises(GateRefused) as refused:
        roll(config, world, Verdict.PASS, verdict, Verdict.PASS)

    assert refused.value.exit_code == 3
    assert "`g2`" in refused.value.what
    assert "reason 2" in refused.value.what
    assert refused.value.details == ("g1: pass - reason 1",)
    assert len(refused.value.gates_seen) == 2
    assert [r["action"] for r in world.sent("continue_service_deployment")] == ["ROLLBACK"]
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"
    assert (world.ingress, world.scale_out_suspended) == ({}, False)


def test_a_gate_that_breaks_off_is_no_pass(config, world):
    """A gate that cannot come to a verdict rolls back instead of leaving the deployment paused."""

    def broken(_target):
        raise AwsError("the load test ended with exit code 1", "read its output")

    with pytest.raises(GateRefused, match="exit code 1"):
        rollout(
            config, world, world.clock, [broken], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST,
        )  # fmt: skip
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_an_alarm_that_goes_off_while_the_gate_runs_is_a_refusal(config, world, verdict):
    """ECS rolls back before it has our answer, and refuses that answer: production never shifted, exit code 3."""

    def gate(_target):
        moving = world.deployments[-1]
        moving.status, moving.hook, moving.alarms = "ROLLBACK_REQUESTED", "FAILED", ("p-e-s-latency",)
        world.refuse["continue_service_deployment"] = AwsError("no such hook", "", code="InvalidParameterException")
        return GateResult("load", verdict, "slow")

    lines: list[str] = []
    with pytest.raises(GateRefused) as refused:
        rollout(
            config, world, world.clock, [gate], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST, on_progress=lines.append,
        )  # fmt: skip

    assert "p-e-s-latency went off" in str(refused.value)
    assert (verdict is Verdict.FAIL) == ("slow" in refused.value.what)
    by_gate = "the gate's own requests, failed or slow, set it off"
    assert (verdict is Verdict.FAIL) == refused.value.details[-1].endswith(by_gate)
    assert (verdict is Verdict.FAIL) == any("ECS rolls back already: the gate's own requests" in line for line in lines)


def test_an_image_that_was_not_built_by_this_release_is_refused_before_any_gate(config, world):
    """The revision's digest, not its tag, says what runs."""
    world.digests[NEW] = "sha256:" + "f" * 64

    with pytest.raises(GateRefused, match="run image sha256:ffff"):
        roll(config, world)

    assert [r["action"] for r in world.sent("continue_service_deployment")] == ["ROLLBACK"]


def test_an_alarm_after_the_shift_is_a_rollback_that_names_it(config, world):
    """The new release had production traffic: exit code 4 and the alarm's name."""
    world.alarm_at = "BAKE_TIME"

    with pytest.raises(RolledBack, match="p-e-s-5xx") as rolled_back:
        roll(config, world)

    assert rolled_back.value.exit_code == 4


@pytest.mark.parametrize("alarm_at", ["nowhere", "BAKE_TIME"])
def test_a_rollback_that_fails_needs_a_person(config, world, alarm_at):
    """ROLLBACK_FAILED says nothing about what serves, before or after the shift: exit code 5."""
    world.alarm_at, world.rollback_status = alarm_at, "ROLLBACK_FAILED"

    with pytest.raises(StateUnknown) as unknown:
        roll(config, world, Verdict.PASS if alarm_at == "BAKE_TIME" else Verdict.FAIL)

    assert unknown.value.exit_code == 5


@pytest.mark.parametrize(("stage", "error"), [("SCALE_UP", GateRefused), ("BAKE_TIME", StateUnknown)])
def test_a_newer_deployment_takes_its_place(config, world, stage, error):
    """ECS stops it where it stands: 3 when production never saw it, and a person must look when it did."""
    world.stays_at = stage

    def supersede(line: str) -> None:
        if stage in line:
            world.deployments[-1].status = "STOPPED"
            world.clock.sleep(1)
            world.start(OTHER)

    with pytest.raises(error, match="took its place" if error is GateRefused else "ended as STOPPED"):
        rollout(
            config, world, world.clock, Gates(world, Verdict.PASS).all(), service="s", release_id="v2",
            task_definition_arn=NEW, image_digest=NEW_DIGEST, on_progress=supersede,
        )  # fmt: skip


def test_an_unknown_status_is_not_guessed_at(config, world):
    """A tenth status is exit code 5, whatever it may mean."""
    world.stays_at = "SCALE_UP"
    lines: list[str] = []

    def spoil(line: str) -> None:
        lines.append(line)
        world.deployments[-1].status = "HALF_DONE" if "SCALE_UP" in line else world.deployments[-1].status

    with pytest.raises(StateUnknown, match="HALF_DONE"):
        rollout(
            config, world, world.clock, [], service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST, on_progress=spoil,
        )  # fmt: skip


def test_every_change_is_announced_before_it_is_made(config, world):
    """`intend` hears of each mutating call first; when it refuses (the lock is lost), the call is not made."""
    intents: list[tuple[str, int]] = []
    roll(config, world, intend=lambda what: intents.append((what.split()[0], len(world.calls))))

    assert [what for what, _ in intents] == [
        "ecs:UpdateService", "ec2:AuthorizeSecurityGroupIngress", "ecs:ContinueServiceDeployment",
    ]  # fmt: skip

    def lost(what: str) -> None:
        if "ContinueServiceDeployment" in what:
            raise Locked("taken over", "wait")

    other = World(FakeClock())
    with pytest.raises(Locked):
        roll(config, other, intend=lost)
    assert other.sent("continue_service_deployment") == []


@pytest.mark.parametrize(("verdict", "answer"), [(Verdict.PASS, "CONTINUE"), (Verdict.FAIL, "ROLLBACK")])
def test_a_deployment_that_a_stack_update_starts_is_gated_too(config, world, verdict, answer):
    """Other subnets make ECS start what serves anew: the hook is answered, not left to its time-out."""
    gates = Gates(world, verdict)
    update = UpdateRollout(config, world, world.clock, gates.all(), "s")
    update.step()
    assert [] == world.sent("continue_service_deployment")

    world.start(OLD)
    for _ in range(30):
        update.step()
        world.clock.sleep(1)

    assert [answer] == [request["action"] for request in world.sent("continue_service_deployment")]
    assert 1 == len(gates.seen)
