"""Both ways to reach green, told with the same releases: from inside the VPC, and from the machine that ships."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import yaml

from tests.stories.conftest import Ended, Project, interrupt, predict, wait_for_line

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(300)]

# The right model, and code that gives every row the answer of another.
WRONG = """
import onnxruntime


def startup():
    run = onnxruntime.InferenceSession.run

    def mixed_up(session, output_names, inputs, *more):
        return [output[::-1] for output in run(session, output_names, inputs, *more)]

    onnxruntime.InferenceSession.run = mixed_up
"""


@dataclass
class Told:
    """The two releases of one way, and what was left behind."""

    project: Project
    good: Ended
    wrong: Ended

    def client(self, service: str) -> Any:
        names = {
            "aws_access_key_id": "AWS_ACCESS_KEY_ID",
            "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
            "endpoint_url": "AWS_ENDPOINT_URL",
            "region_name": "AWS_REGION",
        }
        return boto3.client(service, **{key: self.project.environment[name] for key, name in names.items()})

    def measured(self) -> list[str]:
        """The keys under which gates left what they measured."""
        s3 = self.client("s3")
        (bucket,) = (one["Name"] for one in s3.list_buckets()["Buckets"] if "artifact" in one["Name"])
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="loadtests/").get("Contents", [])
        return sorted(entry["Key"] for entry in listed)

    def gate_tasks(self, desired_status: str = "STOPPED") -> list[dict[str, Any]]:
        """The one-off tasks, as ECS still shows them."""
        ecs = self.client("ecs")
        (cluster,) = ecs.list_clusters()["clusterArns"]
        arns = ecs.list_tasks(cluster=cluster, startedBy="onnxship-gate", desiredStatus=desired_status)["taskArns"]
        return ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []

    def test_port_rules(self) -> list[dict[str, Any]]:
        """What may reach the test listener now."""
        rules = self.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
        signed = (
            rule for rule in rules if any(tag["Key"].startswith("onnxship:gate:") for tag in rule.get("Tags", []))
        )
        return list(signed)


@pytest.fixture(scope="module", params=["vpc", "runner"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def told(way: str, project: Project) -> Iterator[Told]:
    """A good release, then one that answers wrongly; each way has a local AWS of its own."""
    file, code = project.directory / "onnxship.yaml", project.directory / "service.py"
    code.unlink(missing_ok=True)
    settings = yaml.safe_load(file.read_text())
    settings["services"]["iris"]["gate"]["from"] = way
    file.write_text(yaml.safe_dump(settings))
    project.commit("Choose where the gate stands")
    ended = project.onnxship("rehearse", "up")
    assert 0 == ended.exit_code, ended.stderr
    project.enter_rehearsal()
    ended = project.onnxship("bootstrap")
    assert 0 == ended.exit_code, ended.stderr
    good = project.onnxship("ship", "--release", "v1", "--yes", "--output", "json")
    code.write_text(WRONG)
    project.commit("Answer rows from the last to the first")
    yield Told(project, good, project.onnxship("ship", "--release", "v2", "--yes", "--output", "json"))
    ended = project.onnxship("rehearse", "down")
    assert 0 == ended.exit_code, ended.stderr


def test_a_good_release_passes(told: Told) -> None:
    """Golden inputs and load judge it on the test listener, and then it serves."""
    assert 0 == told.good.exit_code, told.good.stderr
    assert {"golden": "pass", "load": "pass"} == {g["name"]: g["verdict"] for g in told.good.json["gates"]}


def test_wrong_answers_are_refused_and_nobody_sees_them(told: Told) -> None:
    """Exit 3 with the output that is wrong; production still answers as v1."""
    assert 3 == told.wrong.exit_code, told.wrong.stderr
    assert "gate `golden` refused: `" in told.wrong.stderr
    assert "v1" == predict(told.good.json["production_url"])[0]


def test_the_gate_ran_where_it_was_to_run(told: Told, way: str) -> None:
    """In the VPC: a task for each gate that was asked, its result in S3. From the runner: neither."""
    tasks = [(task["group"].rpartition("_")[2], task["containers"][0]["exitCode"]) for task in told.gate_tasks()]
    keys = [(key.split("/")[3], key.rpartition("-")[2]) for key in told.measured()]

    v1 = [("v1", "loadtests.golden/result.json"), ("v1", "loadtests/result.json")]
    v2 = [("v2", "loadtests.golden/result.json")]
    assert (keys, tasks) == (([*v1, *v2], [("gate", 0)] * 3) if way == "vpc" else ([], []))


def test_the_test_port_is_closed_afterwards(told: Told) -> None:
    """After a pass and after a refusal alike."""
    assert [] == told.test_port_rules()


def test_an_interruption_ends_the_gate_and_closes_the_port(told: Told, way: str) -> None:
    """Ctrl-C while the gate asks: its task is stopped, the port closed, and v1 goes on serving."""
    (told.project.directory / "service.py").unlink()
    told.project.train(c=0.5 if way == "vpc" else 0.2)
    told.project.commit("Another model")
    process = told.project.begin("ship", "--release", "v3", "--yes")
    wait_for_line(process, "`loadtests` runs in the VPC as task" if way == "vpc" else "gate golden")

    ended = interrupt(process)

    assert 130 == ended.exit_code, ended.stderr
    assert [] == told.test_port_rules()
    assert [] == told.gate_tasks("RUNNING")
    stopped = [task["stoppedReason"] for task in told.gate_tasks() if task["stopCode"] == "UserInitiated"]
    assert (["Nobody waits for it any more."] if way == "vpc" else []) == stopped
    assert "v1" == predict(told.good.json["production_url"])[0]
