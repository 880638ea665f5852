"""Where AWS's documents are silent or disagree, the pipeline must be right under either reading.

One local AWS per reading, in which that question alone is answered the other way; READINGS says which stories the
reading can touch. After each story one release serves alone, ledger and ECS agree, and no lock is left; a release that
was refused has not had one request of production.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, NamedTuple, get_args, get_type_hints

import boto3
import pytest
import yaml

from rehearsal.ecs.questions import OpenQuestions
from tests.stories.conftest import Ended, Project, finish, predict, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(300)]
FAULTY = "def postprocess(outputs):\n    raise ValueError('no such label')\n"
CRASHES = "def startup():\n    raise RuntimeError('no such table')\n"
ALARM = (
    "AlarmName", "AlarmDescription", "Threshold", "EvaluationPeriods", "DatapointsToAlarm", "TreatMissingData",
    "Metrics",
)  # fmt: skip
PATIENCE_S = 90.0


@dataclass
class Told:
    """A story as it goes: the project, and what serves now."""

    project: Project
    serves: str = ""
    url: str = ""
    number: int = 0

    def change(self, code: str = "") -> str:
        """Another model, committed, with the user's own code or without; the next release's name."""
        self.number += 1
        path = self.project.directory / "service.py"
        path.write_text(code) if code else path.unlink(missing_ok=True)
        self.project.train(c=self.number / 10)
        self.project.commit(f"v{self.number}")
        return f"v{self.number}"

    def ship(self, release: str) -> Ended:
        return self.project.onnxship("ship", "--release", release, "--yes", "--output", "json")

    def is_live(self, ended: Ended) -> None:
        """The command put its release into production."""
        assert 0 == ended.exit_code, ended.stderr
        self.serves, self.url = ended.json["release_id"], ended.json["production_url"]

    def client(self, service: str) -> Any:
        return boto3.Session("rehearsal", "rehearsal", region_name="eu-west-1").client(
            service, endpoint_url=self.project.environment["AWS_ENDPOINT_URL"]
        )

    def shifts(self) -> list[dict[str, int]]:
        """Every change of production's weights so far."""
        with urllib.request.urlopen(
            f"{self.project.environment['AWS_ENDPOINT_URL']}/_rehearsal/weights", timeout=5
        ) as answer:
            changes = json.loads(answer.read())
        production = int(self.url.rpartition(":")[2]) if self.url else 0
        return [change["weights"] for change in changes if change["listener_port"] == production]

    def until(self, happened: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + PATIENCE_S
        while not (answer := happened()):
            assert time.monotonic() < end, f"{what} did not happen within {PATIENCE_S:g} s"
            time.sleep(0.3)
        return answer

    def update_stack(self, **changed: Callable[[str], str]) -> Callable[[], str]:
        """Somebody changes parameters of the service's stack by hand; a function that gives the stack's status."""
        aws = self.client("cloudformation")
        (stack,) = [one for one in aws.describe_stacks()["Stacks"] if one["StackName"].endswith("-service")]
        before = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
        kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in before if name not in changed]
        new = [{"ParameterKey": n, "ParameterValue": change(before[n])} for n, change in changed.items()]
        aws.update_stack(StackName=stack["StackName"], UsePreviousTemplate=True, Parameters=[*kept, *new])
        return lambda: str(aws.describe_stacks(StackName=stack["StackName"])["Stacks"][0]["StackStatus"])


# --- the stories


def first(told: Told) -> None:
    """The first release of a service passes its gate."""
    told.is_live(told.ship(told.change()))


def refused_first(told: Told, exit_code: int = 3) -> None:
    """A first release that its gate turns down does not stay, and the next one is the first again."""
    ended = told.ship(told.change(FAULTY))
    assert exit_code == ended.exit_code, ended.stderr
    assert "gate `golden` refused" in ended.stderr, ended.stderr  # which asks /predict, as users do
    assert [] == told.client("ecs").list_services(cluster=cluster_of(told))["serviceArns"]


def taken_back_first(told: Told) -> None:
    """The same where the gate could only ask production."""
    refused_first(told, exit_code=4)


def second(told: Told) -> None:
    """A second release goes through the gate and takes production."""
    ended = told.ship(told.change())
    told.is_live(ended)
    assert ["golden", "load"] == [gate["name"] for gate in ended.json["gates"]]


def refused(told: Told) -> None:
    """The gate turns a release down, and production's rule is not touched."""
    before = told.shifts()
    ended = told.ship(told.change(FAULTY))
    assert 3 == ended.exit_code, ended.stderr
    assert before == told.shifts()


def crashes(told: Told) -> None:
    """A release whose tasks do not start is stopped, whoever notices first."""
    before = told.shifts()
    ended = told.ship(told.change(CRASHES))
    assert 3 == ended.exit_code, ended.stderr
    assert before == told.shifts()


def rolled_back(told: Told) -> None:
    """Back to the release before, gated by the golden inputs."""
    ended = told.project.onnxship("rollback", "--yes", "--output", "json")
    assert 0 == ended.exit_code, ended.stderr
    told.serves = ended.json["serves"]


def aborted(told: Told) -> None:
    """A run at its gate is broken off by another command."""
    before = told.shifts()
    ship = told.project.begin("ship", "--release", told.change(), "--yes")
    wait_for_line(ship, "POST_TEST_TRAFFIC_SHIFT")
    ended = told.project.onnxship("abort", "--yes")
    shipped = finish(ship)
    assert (0, 3) == (ended.exit_code, shipped.exit_code), ended.stderr + shipped.stderr
    assert before == told.shifts()


def ringing(told: Told) -> None:
    """A rollback alarm rings before the deployment starts: it is over before production sees the release."""
    aws = told.client("cloudwatch")
    (alarm,) = [one for one in aws.describe_alarms()["MetricAlarms"] if "failed requests" in one["AlarmDescription"]]
    turned = {name: alarm[name] for name in ALARM} | {"ComparisonOperator": "LessThanOrEqualToThreshold"}
    aws.put_metric_alarm(**turned)
    told.until(lambda: aws.describe_alarms(StateValue="ALARM")["MetricAlarms"], "an alarm")
    before = told.shifts()
    ended = told.ship(told.change())
    assert 3 == ended.exit_code, ended.stderr
    assert f"alarm {alarm['AlarmName']} went off" in ended.stderr
    assert before == told.shifts()


def rolling(told: Told) -> None:
    """A release by ROLLING replaces the tasks where they are."""
    configure(told.project, rollout={"strategy": "ROLLING"})
    told.is_live(told.ship(told.change()))


def replaced_at_the_gate(told: Told) -> None:
    """Somebody's stack update begins a deployment of its own while ours waits at its gate, and ours is over."""
    changed_at_the_gate(told, exit_code=3)


def kept_at_the_gate(told: Told) -> None:
    """The same, and ours goes on as if nothing had happened."""
    changed_at_the_gate(told, exit_code=0)


def changed_at_the_gate(told: Told, exit_code: int) -> None:
    """Their deployment has the gate's hook, too, and nobody to answer it: `abort` ends it, and its stack goes back."""
    before, release = told.shifts(), told.change()
    ship = paused(told, release)
    known = deployments(told)
    status = told.update_stack(PrivateSubnetIds=lambda subnets: subnets.partition(",")[0])
    told.until(lambda: deployments(told) != known or status() == "UPDATE_ROLLBACK_COMPLETE", "an answer to the update")
    ship.send_signal(signal.SIGCONT)
    shipped = finish(ship)
    assert exit_code == shipped.exit_code, shipped.stderr
    told.serves = release if exit_code == 0 else told.serves
    aborted = told.project.onnxship("abort", "--yes")
    assert 0 == aborted.exit_code, aborted.stderr
    told.until(lambda: status() == "UPDATE_ROLLBACK_COMPLETE", "the stack's own rollback")
    assert exit_code == 0 or before == told.shifts()


def tuned_at_the_gate(told: Told) -> None:
    """Somebody's stack update that begins no deployment disturbs nothing, and is done before our gate is."""
    release = told.change()
    ship = paused(told, release)
    status = told.update_stack(HealthCheckGracePeriodSeconds=lambda seconds: str(int(seconds) + 1))
    told.until(lambda: status() == "UPDATE_COMPLETE", "the update")
    ship.send_signal(signal.SIGCONT)
    shipped = finish(ship)
    assert 0 == shipped.exit_code, shipped.stderr
    told.serves = release


def paused(told: Told, release: str) -> Any:
    """A run that is held up at its gate."""
    ship = told.project.begin("ship", "--release", release, "--yes")
    wait_for_line(ship, "POST_TEST_TRAFFIC_SHIFT")
    ship.send_signal(signal.SIGSTOP)
    return ship


def cluster_of(told: Told) -> str:
    (arn,) = told.client("ecs").list_clusters()["clusterArns"]
    return str(arn)


def deployments(told: Told) -> list[tuple[str, str]]:
    """The service's deployments and their statuses, newest first."""
    ecs, cluster = told.client("ecs"), cluster_of(told)
    (service,) = ecs.list_services(cluster=cluster)["serviceArns"]
    found = ecs.list_service_deployments(cluster=cluster, service=service)["serviceDeployments"]
    return [(one["serviceDeploymentArn"], one["status"]) for one in found]


# --- which reading needs which


class Reading(NamedTuple):
    """The stories that a reading can touch, and why these."""

    stories: tuple[Callable[[Told], None], ...]
    why: str


READINGS = {
    "hooks_at_creation=false": Reading(
        (taken_back_first, first), "nobody asks for the gate before a first release has production"
    ),
    "failed_first_deployment=STOPPED": Reading((refused_first,), "it is how a refused first release ends"),
    "failed_first_deployment_keeps_tasks=true": Reading((refused_first,), "its tasks must go all the same"),
    "first_target_group=alternate": Reading(
        (first, refused, second), "every weight and every switch is the other way round"
    ),
    "breaker_under_blue_green=false": Reading((first, crashes), "nobody but the pipeline counts failed tasks"),
    "alarm_already_in_alarm=roll back": Reading((first, ringing), "ECS ends the deployment as it begins"),
    "rolling_alarm_bake_minutes=0": Reading((first, rolling), "it is over before the gate has asked"),
    "rolling_target_group=primary": Reading(
        (first, second, rolling), "after the second release the group that is named first does not serve"
    ),
    "unchanged_task_definition_deploys=true": Reading(
        (first, second, rolled_back), "each names task definitions that were there before"
    ),
    "update_during_deployment=supersede": Reading(
        (first, replaced_at_the_gate, second), "the default, of which no other story tells"
    ),
    "update_during_deployment=roll back": Reading((first, replaced_at_the_gate), "ours ends by nobody's wish"),
    "update_during_deployment=wait": Reading((first, kept_at_the_gate), "theirs begins when ours has ended"),
    "update_during_deployment=refuse": Reading((first, kept_at_the_gate), "their stack goes back at once"),
    "stack_waits_for_running_deployment=false": Reading(
        (first, tuned_at_the_gate), "the stack is another one before the gate has answered"
    ),
    "test_rule_returns_on_rollback=false": Reading(
        (first, refused, second), "the next gate finds the test rule where the refused release left it"
    ),
    "production_rule_holds_both_groups=false": Reading((first, second), "both rules are read before each deployment"),
    "mixed_rule_actions=refuse": Reading((first, second), "our rules must carry forward actions only"),
    "abort_is_accepted=false": Reading((first, aborted), "what stops a deployment must not ask for ABORT"),
}


def test_every_reading_has_its_stories() -> None:
    """A new question, or a new answer to one, needs a line in READINGS."""
    hints = get_type_hints(OpenQuestions)
    others = {
        f"{one.name}={str(value).lower() if hints[one.name] is bool else value}"
        for one in fields(OpenQuestions)
        for value in ((True, False) if hints[one.name] is bool else get_args(hints[one.name]))
        if value != one.default
    }
    numbers = {one.name for one in fields(OpenQuestions) if hints[one.name] is float}

    assert set() == others - READINGS.keys()
    assert {one.name for one in fields(OpenQuestions)} == {name.partition("=")[0] for name in READINGS}
    assert {"rolling_alarm_bake_minutes"} == numbers


@pytest.fixture(params=READINGS)
def otherwise(project: Project, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A local AWS in which one question is answered otherwise, one task per release, and a short gate."""
    before, path = dict(project.environment), project.directory / "onnxship.yaml"
    text = path.read_text()
    configure(project)
    ended = project.onnxship("rehearse", "up", "--assume", request.param, "--seconds-per-minute", "1")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    assert 0 == project.onnxship("bootstrap").exit_code
    yield project
    project.onnxship("rehearse", "down")
    project.environment = before
    path.write_text(text)


def configure(project: Project, rollout: dict[str, Any] | None = None) -> None:
    """A gate from here, of a second; how fast answers come is not this story's matter."""
    name, path = "quiet.yaml", project.directory / "onnxship.yaml"
    template = (files("cloudformation") / "service.yaml").read_text()
    (project.directory / name).write_text(template.replace("Default: 2000\n", "Default: 60000\n"))
    settings = yaml.safe_load(path.read_text()) | {"templates": {"service": name}}
    service = settings["services"]["iris"]
    load = {"rps": 20, "duration_s": 1, "min_requests": 5, "p99_ms": 60000}
    service["gate"] = {"from": "runner", "against_live": None, "load": load}
    service["compute"] |= {"min": 1, "max": 2}
    service["rollout"] = {"bake_minutes": 1, "start_deadline_s": 120} | (rollout or {})
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


def test_the_pipeline_is_right_under_the_other_reading(otherwise: Project, request: pytest.FixtureRequest) -> None:
    """Each story that the reading can touch ends as it must, and leaves nothing behind."""
    reading = READINGS[request.node.callspec.params["otherwise"]]
    told = Told(otherwise)
    for story in reading.stories:
        story(told)
        check_all_is_well(told, story.__name__)


def check_all_is_well(told: Told, story: str) -> None:
    """No lock is held; ledger, ECS and production's answers name the same release, and nothing is under way."""
    assert not told.project.onnxship("lock", "status", "--output", "json").json["held"], story
    if told.serves:
        status = told.project.onnxship("status", "--output", "json").json
        assert ("agrees with ECS", []) == (status["ledger"], status["deployments"]), story
        assert told.serves == status["release_id"] == predict(told.url)[0], story
