"""Every answer against botocore's model: moto's serializer drops what the model does not know without a word."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from rehearsal.ecs import views
from rehearsal.ecs.state import Container, Interruption, Task

MODEL = botocore.session.get_session().get_service_model("ecs")
ALARMS = {"alarmNames": ["5xx"], "enable": True, "rollback": True}
HOOK = {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}


def faults(shape: str, view: dict[str, Any]) -> str:
    """What the model does not know in a view: members, types, enumerated values."""
    report = ParamValidator().validate(view, MODEL.shape_for(shape)).generate_report()
    return report + "".join(_unknown_values(MODEL.shape_for(shape), view))


def _unknown_values(shape: Any, value: Any) -> list[str]:
    if shape.type_name == "structure":
        return [fault for key, member in value.items() for fault in _unknown_values(shape.members[key], member)]
    if shape.type_name == "list":
        return [fault for member in value for fault in _unknown_values(shape.member, member)]
    enum = getattr(shape, "enum", None)
    return [f"{shape.name} has no {value}"] if enum and value not in enum else []


@pytest.fixture
def told(world):
    """A service with a deployment that was rolled back by an alarm after its hook, and one that waits at it."""
    world.released()
    deployment, rollout = world.rollout(alarms=ALARMS, lifecycleHooks=[HOOK])

    def script():
        for hook in world.open_hooks(deployment):
            hook.status = "SUCCEEDED"
        if deployment.stage == "BAKE_TIME":
            world.alarms = ["5xx"]

    world.each_tick = script
    world.play(rollout)
    assert deployment.status == "ROLLBACK_SUCCESSFUL"
    world.alarms.clear()
    waiting, rollout = world.rollout(lifecycleHooks=[HOOK], deploymentCircuitBreaker={"enable": True, "rollback": True})
    world.each_tick = lambda: (
        world.open_hooks(waiting) and setattr(waiting, "interruption", Interruption("STOP", "seen"))
    )
    world.play(rollout)
    world.service.spec |= {"launchType": "FARGATE", "tags": [{"key": "a", "value": "b"}]}
    return world.service


def test_a_service_is_told_in_the_models_words(told):
    """DescribeServices."""
    told.events.insert(0, {"id": "1", "createdAt": 1.0, "message": "x"})
    assert faults("Service", views.service_view(told, with_tags=True)) == ""


def test_deployments_are_told_in_the_models_words(told):
    """ListServiceDeployments and DescribeServiceDeployments, whatever became of them."""
    assert {one.status for one in told.deployments} == {"SUCCESSFUL", "ROLLBACK_SUCCESSFUL", "STOPPED"}
    for deployment in told.deployments:
        assert faults("ServiceDeployment", views.deployment_view(told, deployment)) == ""
        assert faults("ServiceDeploymentBrief", views.deployment_brief(told, deployment)) == ""


def test_revisions_are_told_in_the_models_words(told):
    """DescribeServiceRevisions."""
    told.revisions[0].task_definition["containerDefinitions"] = [{"name": "model", "image": "x"}]
    told.revisions[0].digests["model"] = "sha256:x"
    for revision in told.revisions:
        assert faults("ServiceRevision", views.revision_view(told, revision)) == ""


def test_a_stopped_task_is_told_in_the_models_words():
    """DescribeTasks, with everything a task can have."""
    definition = {"taskDefinitionArn": "arn:td", "cpu": "256", "memory": "512", "family": "f"}
    container = Container("arn:container/c/a-b", {"name": "model", "image": "x"}, "sha256:x", "STOPPED", 137, "why")
    task = Task("arn:task/c/1", "arn:cluster/c", definition, [container], 1.0, "service:s", "FARGATE", "ecs-svc/1")
    task.ip, task.subnet, task.zone = "10.0.0.4", "subnet-1", "eu-west-1a"
    task.times = dict.fromkeys(views.TASK_TIMES, 2.0)
    task.ask_to_stop("EssentialContainerExited", "Essential container in task exited")
    view = views.task_view(task, with_tags=True)
    assert faults("Task", view) == ""
    assert {"stoppedAt", "stopCode", "stoppedReason", "attachments", "tags"} <= set(view)
