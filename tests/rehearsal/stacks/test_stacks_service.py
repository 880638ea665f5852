"""AWS::ECS::Service: CloudFormation waits for the service's deployment, as it does in AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TEMPLATE = (Path(__file__).parent / "templates" / "service.yaml").read_text()


@pytest.fixture
def tasks(cloud: Any) -> list[str]:
    """Two revisions of a task definition."""
    container = {"name": "model", "image": "it", "memory": 128}
    register = cloud.client("ecs").register_task_definition
    made = [register(family="it", containerDefinitions=[container]) for _ in range(2)]
    return [answer["taskDefinition"]["taskDefinitionArn"] for answer in made]


def test_a_service_is_complete_when_its_deployment_is(cloud: Any, tasks: list[str]) -> None:
    """Creation waits for the deployment and gives the service's name and ARN."""
    stack = cloud.create(TEMPLATE, Parameters={"Task": tasks[0]})
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert "CREATE_COMPLETE" == stack["StackStatus"]
    assert 1 == len(cloud.deployments.made)
    assert outputs["Arn"].endswith(f"/{outputs['Name']}")


def test_a_failed_first_deployment_fails_the_stack_with_its_reason(cloud: Any, tasks: list[str]) -> None:
    """What ECS says about its deployment is what the stack says, and nothing is left."""
    cloud.deployments.next_end = ("ROLLBACK_FAILED", "No rollback candidate was found to run the rollback.")
    stack = cloud.create(TEMPLATE, Parameters={"Task": tasks[0]})
    reason = cloud.reason("Service", "CREATE_FAILED")
    assert "ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert "No rollback candidate was found to run the rollback." in reason
    assert "HandlerErrorCode: NotStabilized" in reason
    assert ("Service", "DELETE_COMPLETE") in cloud.events()


def test_an_update_sends_only_what_changed(cloud: Any, tasks: list[str]) -> None:
    """A new grace period begins no deployment, so there is nothing to wait for."""
    cloud.create(TEMPLATE, Parameters={"Task": tasks[0]})
    cloud.update(TEMPLATE, Parameters={"Task": tasks[0], "Grace": "9"})
    assert [{"healthCheckGracePeriodSeconds": 9}] == sent(cloud)
    assert 1 == len(cloud.deployments.made)


def test_a_rollback_after_ecs_own_rollback_touches_nothing_that_is_back(cloud: Any, tasks: list[str]) -> None:
    """ECS has put the task definition back by itself; CloudFormation's rollback does not begin a deployment again."""
    cloud.create(TEMPLATE, Parameters={"Task": tasks[0]})
    cloud.deployments.next_end = ("ROLLBACK_SUCCESSFUL", "Service deployment rolled back because of alarm(s).")
    stack = cloud.update(TEMPLATE, Parameters={"Task": tasks[1]})
    assert "UPDATE_ROLLBACK_COMPLETE" == stack["StackStatus"]
    assert "rolled back because of alarm(s)" in cloud.reason("Service", "UPDATE_FAILED")
    assert [{"taskDefinition": tasks[1]}] == sent(cloud)
    assert 2 == len(cloud.deployments.made)


def test_a_stack_whose_service_waits_can_be_deleted(cloud: Any, tasks: list[str]) -> None:
    """Deleting a stack during its creation cancels the wait and removes what was made."""
    cloud.deployments.next_end = ("IN_PROGRESS", "")
    given = [{"ParameterKey": "Task", "ParameterValue": tasks[0]}]
    stack_id = cloud.stacks.create_stack(StackName="it", TemplateBody=TEMPLATE, Parameters=given)["StackId"]
    cloud.until(lambda: cloud.deployments.made)
    with pytest.raises(
        cloud.stacks.exceptions.ClientError, match="is in CREATE_IN_PROGRESS state and can not be updated"
    ):
        cloud.stacks.update_stack(StackName="it", TemplateBody=TEMPLATE, Parameters=given)
    cloud.stacks.delete_stack(StackName="it")
    assert "DELETE_COMPLETE" == cloud.settled(stack_id)["StackStatus"]
    assert "Resource creation cancelled" == cloud.reason("Service", "CREATE_FAILED", stack_id)


@pytest.mark.parametrize("waits", [True, False])
def test_an_update_beside_a_running_deployment(
    cloud: Any, tasks: list[str], waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new grace period is sent at once; its stack is complete before the deployment that runs, or only after it."""
    cloud.create(TEMPLATE, Parameters={"Task": tasks[0]})
    monkeypatch.setattr(cloud.context, "assumed", {"stack_waits_for_running_deployment": waits})
    running = cloud.deployments.made[0]
    running["status"] = "IN_PROGRESS"
    given = {"Task": tasks[0], "Grace": "9"}
    request = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
    cloud.stacks.update_stack(StackName="it", TemplateBody=TEMPLATE, Parameters=request)
    cloud.until(lambda: sent(cloud))
    if waits:
        assert "UPDATE_IN_PROGRESS" == cloud.stacks.describe_stacks(StackName="it")["Stacks"][0]["StackStatus"]
        running["status"] = "ROLLBACK_SUCCESSFUL"
    assert "UPDATE_COMPLETE" == cloud.settled("it")["StackStatus"]
    assert waits == (running["status"] != "IN_PROGRESS")
    running["status"] = "SUCCESSFUL"


def sent(cloud: Any) -> list[dict[str, Any]]:
    """What the updates of the service asked for."""
    return [
        {key: value for key, value in request.items() if key not in ("cluster", "service")}
        for request in cloud.deployments.updates
    ]
