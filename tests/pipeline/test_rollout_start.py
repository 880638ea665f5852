"""A rollout's start: what must be so before it begins, and new tasks that do not come up."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from pipeline.config import Config, Rollout
from pipeline.deployment.diagnosis import readable
from pipeline.errors import AwsError, GateRefused, Locked, UsageError
from pipeline.results import Verdict
from pipeline.stages.rollout import rollout, warn_of_session
from pipeline.waiting import FakeClock
from tests.pipeline.ecs_world import NEW, NEW_DIGEST, OLD, OTHER, World, failed_task
from tests.pipeline.rollouts import Gates, config, failed, roll, world

assert all([config, world])  # the fixtures


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


def test_a_start_that_hangs_names_the_task_what_the_balancer_says_and_its_last_words(config, world):
    """Nothing has failed: the reason is in the log of the task that runs, and in the health check's answer."""
    world.stays_at = "SCALE_UP"
    details = [{"name": "privateIPv4Address", "value": "10.0.0.7"}]
    world.running = [
        {
            "taskArn": "arn:task/7",
            "taskDefinitionArn": NEW,
            "lastStatus": "RUNNING",
            "attachments": [{"details": details}],
        },
        {"taskArn": "arn:task/1", "taskDefinitionArn": OLD, "lastStatus": "RUNNING"},
    ]
    world.health = {"10.0.0.7": ("unhealthy", "Health checks failed with these codes: [503]")}
    world.log = (
        '{"level": "warning", "message": "still in service.py startup() after 50 s"}',
        '{"level": "error", "message": "request", "path": "/v2/health/ready", "status": 503}',
    )

    with pytest.raises(GateRefused, match="start_deadline_s") as refused:
        roll(config, world)

    assert refused.value.details == (
        "task 7: RUNNING and is unhealthy (Health checks failed with these codes: [503])",
        "  | warning: still in service.py startup() after 50 s",
    )


def test_a_task_that_cannot_be_placed_stops_the_deployment_at_once(config, world):
    """ECS's own message is passed on, without waiting for the deadline."""
    world.stays_at = "SCALE_UP"
    message = "(service svc) was unable to place a task. Reason: Capacity is unavailable at this time."
    world.events = [{"createdAt": world.clock.now() + timedelta(seconds=1), "message": message}]

    with pytest.raises(GateRefused, match="Capacity is unavailable"):
        roll(config, world)

    assert world.clock.slept_s < 60


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
