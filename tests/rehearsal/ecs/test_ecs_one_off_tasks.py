"""RunTask on a real rehearsal: tasks that belong to no service."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.rehearsal.ecs.servers import Service, definition, until


def test_a_one_off_task_runs_to_its_end(here):
    """RunTask: a real process with the overridden environment; its exit code and reason are kept."""
    arn = definition(here, "once")
    override = {"name": "model", "environment": [{"name": "EXIT", "value": "7"}]}
    task = here.ecs.run_task(
        cluster=here.cluster,
        taskDefinition=arn,
        networkConfiguration=here.network,
        startedBy="test",
        overrides={"containerOverrides": [override]},
    )["tasks"][0]

    def ended():
        told = here.ecs.describe_tasks(cluster=here.cluster, tasks=[task["taskArn"]])["tasks"][0]
        return told if told["lastStatus"] == "STOPPED" else None

    told = until(ended)
    assert (told["containers"][0]["exitCode"], told["startedBy"], told["group"]) == (7, "test", "family:once")


def test_a_repeated_run_task_is_the_same_task(here):
    """With a client token a request whose answer was lost can be sent again."""
    asked = {
        "cluster": here.cluster,
        "taskDefinition": definition(here, "token"),
        "networkConfiguration": here.network,
        "clientToken": "4f2f7a0c",
    }
    first, second = (here.ecs.run_task(**asked)["tasks"][0]["taskArn"] for _ in range(2))
    here.ecs.stop_task(cluster=here.cluster, task=first)

    assert first == second
    assert [first] == here.ecs.list_tasks(cluster=here.cluster, family="token", desiredStatus="STOPPED")["taskArns"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overrides": {"containerOverrides": [{"name": "other"}]}}, "is not a container in the TaskDefinition"),
        (
            {"overrides": {"containerOverrides": [{"name": "model", "command": ["x" * 9000]}]}},
            "Container Overrides length must be at most 8192",
        ),
        ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-12345678"]}}}, "subnet-12345678"),
        ({"networkConfiguration": None}, "Network Configuration must be provided"),
    ],
)
def test_a_task_that_could_not_run_is_refused(here, changes, words):
    """What ECS answers at once is answered at once, with the reason."""
    asked = {"cluster": here.cluster, "taskDefinition": definition(here, "unfit")}
    asked |= {"networkConfiguration": here.network, **changes}
    with pytest.raises(ClientError, match=words):
        here.ecs.run_task(**{key: value for key, value in asked.items() if value})


def test_a_one_off_task_outlives_the_deployments_of_services(here):
    """It belongs to no service: a new revision replaces the service's tasks, not this one."""
    beside = Service(here, "beside")
    assert beside.finished()["status"] == "SUCCESSFUL"
    task = here.ecs.run_task(
        cluster=here.cluster, taskDefinition=definition(here, "lasting"), networkConfiguration=here.network
    )["tasks"][0]["taskArn"]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=[task])["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "RUNNING")
    beside.update(taskDefinition=definition(here, "beside", "r2"))
    assert beside.finished()["status"] == "SUCCESSFUL"

    assert describe()["lastStatus"] == "RUNNING"
    here.ecs.stop_task(cluster=here.cluster, task=task)


def test_a_stopped_task_tells_who_stopped_it(here):
    """StopTask's reason is the stopped reason, and SIGTERM is the exit code."""
    task = here.ecs.run_task(
        cluster=here.cluster, taskDefinition=definition(here, "stopped"), networkConfiguration=here.network
    )["tasks"][0]["taskArn"]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=[task])["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "RUNNING")
    here.ecs.stop_task(cluster=here.cluster, task=task, reason="enough")
    until(lambda: describe()["lastStatus"] == "STOPPED")
    told = describe()
    assert (told["stopCode"], told["stoppedReason"]) == ("UserInitiated", "enough")
    assert told["containers"][0]["exitCode"] == 143


def test_a_task_without_its_log_group_does_not_start(here):
    """The log group is missing: TaskFailedToStart with the container agent's sentence."""
    arn = definition(here, "silent")
    container = here.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"][0]
    container["logConfiguration"]["options"]["awslogs-group"] = "/nothing"
    here.ecs.register_task_definition(family="silent", networkMode="awsvpc", containerDefinitions=[container])
    task = here.ecs.run_task(cluster=here.cluster, taskDefinition="silent", networkConfiguration=here.network)
    arns = [one["taskArn"] for one in task["tasks"]]
    describe = lambda: here.ecs.describe_tasks(cluster=here.cluster, tasks=arns)["tasks"][0]  # noqa: E731
    until(lambda: describe()["lastStatus"] == "STOPPED")
    told = describe()
    assert told["stopCode"] == "TaskFailedToStart"
    assert told["stoppedReason"].startswith("ResourceInitializationError: failed to validate logger args")
