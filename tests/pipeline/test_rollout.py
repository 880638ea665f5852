"""Rollout: an ECS deployment followed, gated and judged, against a small ECS made by hand."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from pipeline.config import Config, Rollout
from pipeline.deployment.diagnosis import readable
from pipeline.errors import AwsError, GateRefused, Locked, PipelineError, RolledBack, StateUnknown, UsageError
from pipeline.results import GateResult, Verdict
from pipeline.stages.rollout import UpdateRollout, rollout, warn_of_session
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, OTHER, World, failed_task


@pytest.fixture
def config(tmp_path) -> Config:
    return Config.model_validate(
        {
            "project": "p",
            "environment_name": "e",
            "environment": {"account": "111122223333", "region": "eu-west-1"},
            "edge": {"allow_http": True, "production_port": 8080},
            "services": {
                "s": {
                    "model": {"path": "m.onnx", "golden": "g.npz"},
                    "gate": {"from": "runner", "runner_cidr": "192.0.2.7/32"},
                    "rollout": {"start_deadline_s": 60, "max_failed_tasks": 3},
                }
            },
            "directory": tmp_path,
            "path": tmp_path / "onnxship.yaml",
        }
    )


@pytest.fixture
def world() -> World:
    return World(FakeClock())


class Gates:
    """Gates with given verdicts that note what they saw."""

    def __init__(self, world, *verdicts: Verdict) -> None:
        self.world, self.verdicts, self.seen = world, verdicts, []

    def all(self):
        return [self._gate(number, verdict) for number, verdict in enumerate(self.verdicts, 1)]

    def _gate(self, number, verdict):
        def gate(target):
            self.seen.append((target, len(self.world.ingress), self.world.scale_out_suspended))
            return GateResult(f"g{number}", verdict, f"reason {number}", {"p99_ms": 12.5})

        return gate


def roll(config, world, *verdicts: Verdict, lines=None, **more):
    gates = Gates(world, *(verdicts or (Verdict.PASS,)))
    said = [] if lines is None else lines
    try:
        return rollout(
            config, world, world.clock, gates.all(), service="s", release_id="v2", task_definition_arn=NEW,
            image_digest=NEW_DIGEST, on_progress=said.append, **more,
        ), gates  # fmt: skip
    except PipelineError as error:
        error.gates_seen = gates.seen
        raise


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


@dataclass
class Private(World):
    """Where gates run in the VPC; `without` names the outputs that older stacks lack."""

    without: tuple[str, ...] = ()
    family: tuple[str, ...] = ()

    def _describe_stacks(self, StackName):  # noqa: N803
        name = StackName.rpartition("-")[2]
        more = {
            "registry": {"RepositoryName": "p-e", "RepositoryUri": "r/p-e", "ArtifactBucketName": "b"},
            "network": {"PrivateSubnetIds": "subnet-1"},
            "cluster": {"LoadBalancerFullName": "app/lb/1"},
            "runtime": {"GateTaskRoleArn": "arn:task", "GateExecutionRoleArn": "arn:execution"},
        }.get(name, {})
        answer = {"Stacks": [{"StackName": StackName, "StackId": "1", "StackStatus": "CREATE_COMPLETE", "Outputs": []}]}
        if name in ("service", "cluster", "runtime"):
            answer = super()._describe_stacks(StackName)
        told = [*answer["Stacks"][0]["Outputs"], *({"OutputKey": k, "OutputValue": v} for k, v in more.items())]
        answer["Stacks"][0]["Outputs"] = [one for one in told if one["OutputKey"] not in self.without]
        return answer

    def _describe_images(self, **_):
        raise AwsError("none", "", code="ImageNotFoundException")

    def _describe_task_definition(self, taskDefinition, **_):  # noqa: N803
        if taskDefinition.endswith("_gate") and taskDefinition not in self.family:
            raise AwsError("none", "", code="ClientException")
        return super()._describe_task_definition(taskDefinition)

    def _describe_network_interfaces(self, **_):
        return {"NetworkInterfaces": [{"PrivateIpAddress": "10.0.0.9"}]}


@pytest.fixture
def in_vpc(config) -> Config:
    service = config.services["s"]
    settings = service.model_copy(update={"gate": service.gate.model_copy(update={"from_": "vpc"})})
    (config.directory / "m.onnx").write_bytes(b"")
    return config.model_copy(update={"services": {"s": settings}})


@pytest.mark.parametrize(
    ("without", "remedy"),
    [
        ((), "run `onnxship build`, which makes it; or set services.<name>.gate.from: runner"),
        (("GateSecurityGroupId",), "run `onnxship deploy --env e --service s`; or set"),
        (("GateTaskRoleArn",), "run `onnxship bootstrap`, then `onnxship deploy`; or set"),
        (("RepositoryUri",), "run `onnxship bootstrap`, then `onnxship deploy`; or set"),
    ],
    ids=["image", "group", "role", "repository"],
)
def test_a_gate_that_could_not_start_is_said_before_green_does(config, in_vpc, without, remedy):
    """No UpdateService, and a remedy that works: from the runner the same release goes live."""
    world = Private(FakeClock(), without=without)

    with pytest.raises(UsageError) as refused:
        roll(in_vpc, world)

    assert refused.value.remedy.startswith(remedy)
    assert refused.value.remedy.endswith("gate.from: runner")
    assert [] == world.sent("update_service")
    assert "SUCCESSFUL" == roll(config, world)[0].status


def test_a_gate_that_can_start_lets_the_deployment_begin(in_vpc):
    """An earlier version's gate is enough, as for going back; nothing is registered by the look."""
    world = Private(FakeClock(), family=("p-e-s_gate",))

    assert "SUCCESSFUL" == roll(in_vpc, world)[0].status
    assert [] == world.sent("register_task_definition")


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


def test_tasks_that_fail_stop_the_deployment_with_their_reasons(config, world):
    """Three failed tasks of the new revision: stopped at once, with exit code and last log lines."""
    world.stays_at = "SCALE_UP"
    world.stopped = [failed(n, world) for n in (1, 2, 3)]

    with pytest.raises(GateRefused, match="3 tasks of the new revision failed") as refused:
        roll(config, world)

    assert refused.value.details[0] == "task 1: Essential container in task exited (model: exit code 3)"
    assert refused.value.details[1] == "  | Traceback: no module named torch"
    assert len(world.sent("stop_service_deployment")) == 1
    assert world.sent("continue_service_deployment") == []


def test_failed_tasks_of_other_revisions_and_earlier_times_do_not_count(config, world):
    """Only tasks of this task definition, since this deployment began, can refuse it."""
    earlier = world.clock.now() - timedelta(hours=1)
    world.stopped = [failed_task(n, earlier) for n in (1, 2, 3)]
    world.stopped += [failed_task(n, world.clock.now(), OLD) for n in (4, 5, 6)]

    result, _ = roll(config, world)

    assert result.status == "SUCCESSFUL"


def test_a_start_that_takes_too_long_is_stopped_at_its_deadline(config, world):
    """Not at the gate after start_deadline_s: the deployment is stopped, and the message names the key."""
    world.stays_at = "SCALE_UP"

    with pytest.raises(GateRefused, match="start_deadline_s"):
        roll(config, world)

    assert 60 <= world.clock.slept_s < 120


def test_a_task_that_cannot_be_placed_stops_the_deployment_at_once(config, world):
    """ECS's own message is passed on, without waiting for the deadline."""
    world.stays_at = "SCALE_UP"
    message = "(service svc) was unable to place a task. Reason: Capacity is unavailable at this time."
    world.events = [{"createdAt": world.clock.now() + timedelta(seconds=1), "message": message}]

    with pytest.raises(GateRefused, match="Capacity is unavailable"):
        roll(config, world)

    assert world.clock.slept_s < 60


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


def test_a_service_without_rollback_alarms_is_refused_before_anything_changes(config, world):
    """After CONTINUE safety rests on the alarms; without them nothing is started."""
    world.rollback_alarms = ()

    with pytest.raises(GateRefused, match="no rollback alarms"):
        roll(config, world)

    assert world.sent("update_service") == []


def test_a_rollback_alarm_that_does_not_exist_is_refused(config, world):
    """A name without an alarm guards nothing."""
    world.alarm_states = {}

    with pytest.raises(GateRefused, match="do not exist: p-e-s-5xx"):
        roll(config, world)

    assert world.sent("update_service") == []


def test_alarms_that_already_fire_are_named(config, world):
    """ECS ignores alarms that are in ALARM at the start, so the output says which."""
    world.alarm_states = {"p-e-s-5xx": "ALARM"}
    lines: list[str] = []

    roll(config, world, lines=lines)

    assert any("WARNING" in line and "p-e-s-5xx" in line for line in lines)


def test_another_releases_deployment_is_never_touched(config, world):
    """A foreign deployment that runs: exit code 7, with its name and the command that answers it."""
    world.start(OTHER)
    world.stays_at = "POST_TEST_TRAFFIC_SHIFT"
    for _ in range(8):
        world.call("ecs", "describe_service_deployments", serviceDeploymentArns=["dep/2"])

    with pytest.raises(Locked) as locked:
        roll(config, world)

    assert locked.value.exit_code == 7
    assert OTHER in locked.value.what
    assert "`r3`" in locked.value.what
    assert "--service-deployment-arn dep/2 --hook-id hook-1" in locked.value.details[0]
    for operation in ("update_service", "continue_service_deployment", "stop_service_deployment"):
        assert world.sent(operation) == []


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

    with pytest.raises(GateRefused, match="taken by ann"):
        roll(config, world, Verdict.PASS, intend=stopped)

    assert [] == world.sent("stop_service_deployment") + world.sent("continue_service_deployment")
    assert world.deployments[-1].status == "ROLLBACK_SUCCESSFUL"


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


def failed(number, world):
    return failed_task(number, world.clock.now() + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain text", "plain text"),
        ('{"level": "info", "message": "listening"}', "info: listening"),
        (
            '{"level": "error", "message": "failed\\nbadly", "stack": "a\\nKeyError: 3\\n"}',
            "error: failed: KeyError: 3",
        ),
        ("[1, 2]", "[1, 2]"),
        ("x" * 400, "x" * 297 + "..."),
    ],
)
def test_log_lines_of_stopped_tasks_are_for_people(line, shown):
    """JSON lines become level, message and the end of the stack; nothing fills the screen."""
    assert readable(line) == shown


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


def test_a_bake_too_short_for_the_alarms_is_said(config, world):
    """Two one-minute points and their delay do not fit into a minute."""
    service = config.services["s"]
    short = service.model_copy(update={"rollout": service.rollout.model_copy(update={"bake_minutes": 1})})
    lines: list[str] = []

    roll(config.model_copy(update={"services": {"s": short}}), world, lines=lines)

    assert any(line.startswith("WARNING: rollout.bake_minutes is 1") for line in lines)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bake_minutes": 97}, None),
        ({"bake_minutes": 98}, "may take 101 minutes, most of it rollout.bake_minutes;"),
        ({"strategy": "CANARY", "canary": {"bake_minutes": 120}}, "may take 133 minutes, most of it rollout.canary;"),
        ({"start_deadline_s": 7200}, "may take 132 minutes, most of it rollout.start_deadline_s;"),
        ({"strategy": "ROLLING", "bake_minutes": 1440}, None),
    ],
)
def test_a_rollout_that_may_outlast_a_session_is_said_before_it_starts(config, settings, words):
    """Start deadline, gate (1.5 minutes), shift and bake above 100 minutes: the key and the parameter are named."""
    chosen = Rollout.model_validate({"start_deadline_s": 60, **settings})
    service = config.services["s"].model_copy(update={"rollout": chosen})
    lines: list[str] = []

    warn_of_session(config.model_copy(update={"services": {"s": service}}), "s", lines.append)

    assert [words is not None] == [bool(lines)]
    assert words is None or (words in lines[0] and "MaxSessionSeconds of stack p-e-delivery" in lines[0])


def test_the_warning_of_a_session_comes_before_anything_is_changed(config, world):
    """`rollout` itself says it, and then deploys all the same."""
    service = config.services["s"]
    long = service.model_copy(update={"rollout": service.rollout.model_copy(update={"bake_minutes": 600})})
    changed: list[int] = []

    def tell(line: str) -> None:
        if "MaxSessionSeconds" in line:
            changed.append(len(world.sent("update_service")))

    rollout(
        config.model_copy(update={"services": {"s": long}}), world, world.clock, Gates(world, Verdict.PASS).all(),
        service="s", release_id="v2", task_definition_arn=NEW, image_digest=NEW_DIGEST, on_progress=tell,
    )  # fmt: skip

    assert [0] == changed
