"""A gate's program as a one-off task: what it is told, what comes of it, and that it never outlives who waits."""

# ruff: noqa: N803 - arguments are AWS's own names

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.aws.models import Pin, PinnedModel
from pipeline.building.gate_image import gate_context, gate_tag
from pipeline.config import Config
from pipeline.deployment.gate_task import measure_in_vpc
from pipeline.deployment.measuring import Job
from pipeline.errors import AwsError, UsageError
from pipeline.results import Target

MODEL = PinnedModel(
    json.dumps({"golden": {"key": "models/tiny/1/golden.npz", "version_id": "g1", "sha256": "aa"}}).encode(),
    b"golden",
    Pin("bucket", "models/tiny/1/manifest.json", "m1", "bb"),
)
TARGET = Target("https://api.example:9000", {"X-Onnxship-Gate": "sesame"}, live_url="https://api.example")
JOB = Job("loadtests", ("--url", TARGET.url, "--rps", "5"), TARGET, MODEL, timeout_s=30)
OUTPUTS = {
    "registry": {"ArtifactBucketName": "bucket", "RepositoryName": "demo-test", "RepositoryUri": "registry/demo-test"},
    "network": {"PrivateSubnetIds": "subnet-1,subnet-2"},
    "cluster": {"ClusterName": "c", "GateSecurityGroupId": "sg-gate", "LoadBalancerFullName": "app/lb/1"},
    "runtime": {
        "GateTaskRoleArn": "arn:task-role", "GateExecutionRoleArn": "arn:execution-role", "GateSecretArn": "arn:secret",
        "LogGroupName": "/logs",
    },
}  # fmt: skip
STOPPED = {
    "lastStatus": "STOPPED",
    "stopCode": "EssentialContainerExited",
    "stoppedReason": "Essential container exited",
}


@dataclass
class Account:
    """What AWS knows; `looks` are what DescribeTasks shows, one after the other, the last one for ever."""

    looks: list[dict[str, Any]] = field(default_factory=lambda: [{"lastStatus": "RUNNING"}, STOPPED])
    result: dict[str, Any] | None = field(default_factory=lambda: {"result": {"requests": 7}})
    tags: dict[str, str] = field(default_factory=dict)
    definitions: list[dict[str, Any]] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)
    stopped: list[tuple[str, str]] = field(default_factory=list)
    started: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def call(self, service: str, operation: str, /, *, region: str | None = None, **request: Any) -> dict[str, Any]:
        return getattr(self, f"_{operation}")(**request)

    def pages(self, service: str, operation: str, key: str, /, **request: Any) -> Any:
        return iter(self.call(service, operation, **request)[key])

    @property
    def job(self) -> dict[str, Any]:
        (override,) = self.started[0]["overrides"]["containerOverrides"]
        (variable,) = override["environment"]
        return dict(json.loads(variable["value"]))

    def _describe_stacks(self, StackName: str) -> dict[str, Any]:
        outputs = OUTPUTS[StackName.rpartition("-")[2]]
        listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        stack = {"StackName": StackName, "StackId": "1", "StackStatus": "CREATE_COMPLETE", "Outputs": listed}
        return {"Stacks": [stack]}

    def _describe_images(self, imageIds: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        try:
            return {"imageDetails": [{"imageDigest": self.tags[imageIds[0]["imageTag"]]}]}
        except KeyError:
            raise AwsError("none", "", code="ImageNotFoundException") from None

    def _describe_task_definition(self, **_: Any) -> dict[str, Any]:
        if not self.definitions:
            raise AwsError("none", "", code="ClientException")
        return {"taskDefinition": self.definitions[-1], "tags": self.definitions[-1]["tags"]}

    def _register_task_definition(self, **request: Any) -> dict[str, Any]:
        arn = f"{request['family']}:{len(self.definitions) + 1}"
        self.definitions.append({**request, "taskDefinitionArn": arn, "status": "ACTIVE"})
        return {"taskDefinition": self.definitions[-1]}

    def _describe_network_interfaces(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:
        assert [{"Name": "description", "Values": ["ELB app/lb/1"]}] == Filters
        return {"NetworkInterfaces": [{"PrivateIpAddress": "10.0.0.9"}, {"PrivateIpAddress": "10.0.1.9"}]}

    def _list_tasks(self, **_: Any) -> dict[str, Any]:
        return {"taskArns": list(self.running)}

    def _run_task(self, **request: Any) -> dict[str, Any]:
        self.started.append(request)
        task = {"taskArn": "task/c/1", "lastStatus": "PROVISIONING"}
        return {"tasks": [] if self.failures else [task], "failures": self.failures}

    def _describe_tasks(self, tasks: list[str], **_: Any) -> dict[str, Any]:
        if set(tasks) <= self.running.keys():
            return {"tasks": [{"taskArn": arn, "startedBy": self.running[arn]} for arn in tasks]}
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"tasks": [{"taskArn": "task/c/1", **look}]}

    def _stop_task(self, task: str, reason: str, **_: Any) -> dict[str, Any]:
        self.stopped.append((task, reason))
        return {}

    def _get_log_events(self, logStreamName: str, **_: Any) -> dict[str, Any]:
        assert "gate/gate/1" == logStreamName
        return {"events": [{"message": "Traceback: out of luck\n"}]}

    def _get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        if self.result is None:
            raise AwsError("none", "", code="NoSuchKey")
        assert Key == self.job["result_key"]
        return {"Body": io.BytesIO(json.dumps(self.result).encode())}

    def _put_object(self, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        self.stored[Key] = Body
        return {"VersionId": "v1"}


@pytest.fixture
def account(config) -> Account:
    """An account in which the gate's image lies."""
    return Account(tags={gate_tag(gate_context(config, "tiny")): "sha256:" + "1" * 64})


def measure(config, account, clock, job: Job = JOB) -> dict[str, Any]:
    return measure_in_vpc(config, account, clock, service="tiny", run="v2", tell=lambda _: None)(job)


def test_what_the_task_measured_is_the_result(config, account, clock):
    """The task gets the program, its words, the load balancer's private addresses, and its inputs by their pins."""
    assert {"requests": 7} == measure(config, account, clock)

    job = account.job
    assert ("loadtests", "bucket", 30) == (job["program"], job["bucket"], job["timeout_s"])
    assert [*JOB.words, "--resolve=api.example=10.0.0.9,10.0.1.9"] == job["arguments"]
    assert {"key": "models/tiny/1/manifest.json", "version_id": "m1", "sha256": "bb"} == job["inputs"]["manifest"]
    assert {"key": "models/tiny/1/golden.npz", "version_id": "g1", "sha256": "aa"} == job["inputs"]["golden"]
    assert job["result_key"].startswith("loadtests/test/tiny/v2/")
    network = account.started[0]["networkConfiguration"]["awsvpcConfiguration"]
    assert {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-gate"], "assignPublicIp": "DISABLED"} == network
    assert [] == account.stopped


def test_the_secret_is_in_no_request(config, account, clock):
    """DescribeTasks shows overrides to whoever may look: the job names the header, ECS brings the value."""
    measure(config, account, clock)

    assert "sesame" not in json.dumps([account.started, account.definitions])
    assert ["X-Onnxship-Gate"] == account.job["secret_headers"]
    container = account.definitions[0]["containerDefinitions"][0]
    assert [{"name": "ONNXSHIP_GATE_SECRET", "valueFrom": "arn:secret"}] == container["secrets"]


def test_the_tasks_image_is_pinned_and_its_definition_registered_once(config, account, clock):
    """By digest, as an unprivileged user with nothing to write but /tmp; another gate makes no other revision."""
    for _ in range(2):
        account.looks = [STOPPED]
        account.started.clear()
        measure(config, account, clock)

    (definition,) = account.definitions
    container = definition["containerDefinitions"][0]
    assert "demo-test-tiny_gate" == definition["family"]
    assert "registry/demo-test@sha256:" + "1" * 64 == container["image"]
    assert (True, "10001:10001") == (container["readonlyRootFilesystem"], container["user"])
    assert ["/tmp"] == [mount["containerPath"] for mount in container["mountPoints"]]


def test_going_back_makes_do_with_the_gate_there_was(config, account, clock):
    """Without this version's image the last registered definition serves; without either the remedy is named."""
    account.tags.clear()
    account.definitions.append({"taskDefinitionArn": "demo-test-tiny_gate:1", "tags": []})

    assert {"requests": 7} == measure(config, account, clock)
    assert "demo-test-tiny_gate:1" == account.started[0]["taskDefinition"]

    account.definitions.clear()
    with pytest.raises(UsageError) as refused:
        measure(config, account, clock)
    assert "onnxship build" in refused.value.remedy


def test_a_users_own_requests_go_along(config, account, clock):
    """They lie beside the result, pinned like the rest."""
    job = Job("loadtests", (), TARGET, MODEL, 30, {"requests": b'{"input": 1}\n'})

    measure(config, account, clock, job)

    pin = account.job["inputs"]["requests"]
    assert {pin["key"]: b'{"input": 1}\n'} == account.stored
    assert pin["key"].rpartition("/")[0] == account.job["result_key"].rpartition("/")[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"result": {"failure": "the model is not there"}}, "failed: the model is not there"),
        (
            {"result": None, "looks": [{**STOPPED, "containers": [{"exitCode": 137}]}]},
            "wrote no result: Essential container exited, exit code 137",
        ),
        (
            {"result": None, "looks": [{"lastStatus": "STOPPED", "stoppedReason": "CannotPullContainerError: no"}]},
            "CannotPullContainerError: no",
        ),
        ({"looks": [{"lastStatus": "PENDING"}]}, "has not started within 240 s (it is PENDING)"),
        ({"looks": [{"lastStatus": "RUNNING"}]}, "has not ended within 90 s"),
    ],
)
def test_a_task_that_measured_nothing_is_said_with_its_last_lines(config, account, clock, changes, words):
    """Why it ended, or that it does not; never a result."""
    for name, value in changes.items():
        setattr(account, name, value)

    with pytest.raises(AwsError) as broken:
        measure(config, account, clock)

    assert words in broken.value.what
    assert ("| Traceback: out of luck",) == broken.value.details
    assert ("looks" in changes and account.looks[0]["lastStatus"] != "STOPPED") == bool(account.stopped)


@pytest.mark.parametrize(
    "told",
    [
        {"stoppedReason": "ResourceInitializationError: unable to pull secrets or registry auth."},
        {
            "stoppedReason": "Nobody waits for it any more.",
            "containers": [{"reason": "ResourceInitializationError: unable to pull secrets or registry auth"}],
        },
    ],
    ids=["of the task", "of its container"],
)
def test_why_a_task_did_not_start_is_asked_once_it_is_stopped(config, account, clock, told):
    """ECS tries again and says nothing until then; our own word for the stop is no reason."""
    genuine = account._stop_task
    account.looks = [{"lastStatus": "PENDING"}]

    def stop(**request: Any) -> dict[str, Any]:
        account.looks = [{"lastStatus": "STOPPED", **told}]
        return genuine(**request)

    account._stop_task = stop
    with pytest.raises(AwsError) as broken:
        measure(config, account, clock)

    ecss = "ECS says: ResourceInitializationError: unable to pull secrets or registry auth); nothing was measured."
    assert broken.value.what.endswith(ecss)


def test_a_task_that_cannot_be_placed_is_said_in_ecss_words(config, account, clock):
    """RunTask answers with failures where others raise."""
    account.failures = [{"reason": "RESOURCE:MEMORY", "detail": "no room"}]

    with pytest.raises(AwsError, match="RESOURCE:MEMORY no room"):
        measure(config, account, clock)


def test_an_interruption_stops_the_task(config, account, clock):
    """Ctrl-C while the task runs: StopTask, and then the interruption goes on."""

    class Interrupted(type(clock)):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(config, account, Interrupted())

    assert ["task/c/1"] == [arn for arn, _ in account.stopped]


def test_an_interruption_is_not_hidden_by_a_task_that_cannot_be_stopped(config, account, clock):
    """The interruption goes on; that the task ends by itself is said."""

    def refuse(**_: Any) -> None:
        raise AwsError("ECS is away", "wait")

    class Interrupted(type(clock)):
        def sleep(self, seconds: float) -> None:
            account._stop_task = refuse
            raise KeyboardInterrupt

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure_in_vpc(config, account, Interrupted(), service="tiny", run="v2", tell=lines.append)(JOB)

    assert "could not be stopped, and ends by itself: ECS is away" in lines[-1]


def test_a_start_that_is_interrupted_leaves_no_task(config, account, clock):
    """RunTask's answer was never seen: what runs of the family is looked up and stopped."""
    genuine = account._run_task

    def interrupted(**request: Any) -> dict[str, Any]:
        genuine(**request)
        account.running = {"task/c/unseen": "onnxship-gate"}
        raise KeyboardInterrupt

    account._run_task = interrupted
    with pytest.raises(KeyboardInterrupt):
        measure(config, account, clock)

    assert ["task/c/unseen"] == [arn for arn, _ in account.stopped]


def test_what_a_killed_run_left_is_stopped_first(config, account, clock):
    """One gate of a service runs at a time: whatever still runs has nobody who waits for it."""
    account.running = {"task/c/old": "onnxship-gate"}

    measure(config, account, clock)

    assert ["task/c/old"] == [arn for arn, _ in account.stopped]


def test_a_gate_stops_no_task_that_no_gate_started(config, account, clock):
    """What a service or a person runs of the family is theirs; and no service's own family can be a gate's."""
    account.running = {"task/c/production": "ecs-svc/1", "task/c/old": "onnxship-gate"}

    measure(config, account, clock)

    assert ["task/c/old"] == [arn for arn, _ in account.stopped]
    with pytest.raises(ValidationError, match=r"tiny_gate\.\[key\]"):
        Config.model_validate({**config.model_dump(), "services": {"tiny_gate": config.services["tiny"]}})


def test_a_private_load_balancers_name_is_looked_up_as_it_is(config, account, clock):
    """Its name leads to private addresses already."""
    internal = config.model_copy(update={"edge": config.edge.model_copy(update={"scheme": "internal"})})

    measure(internal, account, clock)

    assert list(JOB.words) == account.job["arguments"]
