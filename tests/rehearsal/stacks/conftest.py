"""The rehearsal's CloudFormation over plain moto, in this process, and a small ECS whose deployments end as told."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import moto.backends
import moto.cloudformation.urls
import moto.core
import moto.ecs.urls
import pytest
from moto.core.responses import ActionResult
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import ThreadedMotoServer

from rehearsal.cloudformation_front import CloudFormation, Front
from rehearsal.context import Context, Settings
from tests.rehearsal.routes import own_routes

REGION = "eu-west-1"
EMPTIED = ("cloudwatch", "ecr", "ecs", "logs", "s3", "secretsmanager", "sns")


@dataclass
class Deployments:
    """ECS service deployments: each new one ends as `next_end` says, and every update's request is kept."""

    next_end: tuple[str, str] = ("SUCCESSFUL", "")
    made: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, service: str) -> None:
        status, reason = self.next_end
        arn = f"arn:aws:ecs:{REGION}:{moto.core.DEFAULT_ACCOUNT_ID}:service-deployment/{uuid.uuid4()}"
        deployment = {"serviceDeploymentArn": arn, "status": status, "createdAt": datetime.now(UTC)}
        self.made.append(deployment | {"serviceArn": service, "statusReason": reason})


class EcsDouble(EC2ContainerServiceResponse):
    """Moto's ECS with service deployments: one begins when the task definition changes."""

    deployments: Deployments

    def create_service(self) -> ActionResult:
        answer = super().create_service()
        self.deployments.begin(answer.result["service"].arn)
        return answer

    def update_service(self) -> ActionResult:
        request = dict(self.params)
        self.deployments.updates.append(request)
        live = self.ecs_backend.describe_services(request["cluster"], [request["service"]])[0][0]
        if request.get("taskDefinition", live.task_definition) != live.task_definition:
            self.deployments.begin(live.arn)
            if self.deployments.next_end[0] != "SUCCESSFUL":
                self.params["taskDefinition"] = live.task_definition  # ECS has rolled back by itself
        return super().update_service()

    def list_service_deployments(self) -> ActionResult:
        return ActionResult({"serviceDeployments": self.deployments.made})

    def describe_service_deployments(self) -> ActionResult:
        wanted = self.params["serviceDeploymentArns"]
        found = [it for it in self.deployments.made if it["serviceDeploymentArn"] in wanted]
        return ActionResult({"serviceDeployments": found})


@dataclass
class Cloud:
    """One CloudFormation and its clients; every helper waits for the operation's end."""

    context: Context
    cloudformation: CloudFormation
    deployments: Deployments

    def client(self, service: str, region: str = REGION) -> Any:
        return self.context.client(service, region)

    @property
    def stacks(self) -> Any:
        return self.client("cloudformation")

    def create(self, template: str, name: str = "it", **request: Any) -> dict[str, Any]:
        made = self.stacks.create_stack(StackName=name, TemplateBody=template, **_request(request))
        return self.settled(made["StackId"])

    def update(self, template: str, name: str = "it", **request: Any) -> dict[str, Any]:
        self.stacks.update_stack(StackName=name, TemplateBody=template, **_request(request))
        return self.settled(name)

    def delete(self, name: str = "it", **request: Any) -> dict[str, Any]:
        stack_id = self.stacks.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        self.stacks.delete_stack(StackName=name, **request)
        return self.settled(stack_id)

    def change_set(self, template: str, kind: str = "UPDATE", name: str = "it", **request: Any) -> dict[str, Any]:
        made = self.stacks.create_change_set(
            StackName=name, ChangeSetName="change", ChangeSetType=kind, TemplateBody=template, **_request(request)
        )

        def described() -> dict[str, Any] | None:
            found = self.stacks.describe_change_set(ChangeSetName=made["Id"])
            return found if found["Status"] in ("CREATE_COMPLETE", "FAILED") else None

        return until(described)

    def until(self, question: Callable[[], Any]) -> Any:
        return until(question)

    def settled(self, name: str) -> dict[str, Any]:
        def described() -> dict[str, Any] | None:
            found = self.stacks.describe_stacks(StackName=name)["Stacks"][0]
            return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

        return until(described)

    def events(self, name: str = "it") -> list[tuple[str, str]]:
        """(logical id, status), oldest first."""
        found = self.stacks.describe_stack_events(StackName=name)["StackEvents"]
        return [(event["LogicalResourceId"], event["ResourceStatus"]) for event in found[::-1]]

    def reason(self, logical_id: str, status: str, name: str = "it") -> str:
        """Why a resource came into a status."""
        for event in self.stacks.describe_stack_events(StackName=name)["StackEvents"]:
            if (event["LogicalResourceId"], event["ResourceStatus"]) == (logical_id, status):
                return str(event.get("ResourceStatusReason", ""))
        raise AssertionError(f"{logical_id} was never {status}: {self.events(name)}")

    def physical_id(self, logical_id: str, name: str = "it") -> str:
        found = self.stacks.describe_stack_resource(StackName=name, LogicalResourceId=logical_id)
        return str(found["StackResourceDetail"]["PhysicalResourceId"])


def _request(request: dict[str, Any]) -> dict[str, Any]:
    if "Parameters" in request and isinstance(request["Parameters"], dict):
        given = request["Parameters"].items()
        request["Parameters"] = [{"ParameterKey": key, "ParameterValue": value} for key, value in given]
    return request


def until(question: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < deadline, "the operation did not end"
        time.sleep(0.02)
    return answer


@dataclass
class Server:
    """Plain moto with the rehearsal's CloudFormation before it; `front.cloudformation` may be another for each test."""

    context: Context
    front: type[Front]
    deployments: Deployments


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for a file's tests: clients and routes are slow to make."""
    with own_routes():
        yield from serve()


def serve() -> Iterator[Server]:
    context = Context(Settings(moto.core.DEFAULT_ACCOUNT_ID, REGION, Path()), asyncio.new_event_loop())
    CloudFormation(context).install()
    front = type("ReplaceableFront", (Front,), {})
    moto.cloudformation.urls.url_paths["{0}/$"] = front.dispatch
    double = type("Ecs", (EcsDouble,), {"deployments": Deployments()})
    moto.ecs.urls.url_paths["{0}/$"] = double.dispatch
    aws = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    aws.start()
    context.endpoint = "http://{}:{}".format(*aws.get_host_and_port())
    yield Server(context, front, double.deployments)
    aws.stop()
    context.loop.close()


@pytest.fixture
def cloud(server: Server) -> Iterator[Cloud]:
    """The server with nothing in it; only EC2 and IAM keep what they have, because emptying them takes long."""
    for service in EMPTIED:
        for account in list(moto.backends.get_backend(service).values()):
            account.reset()
    vars(server.deployments).update(vars(Deployments()))
    server.front.cloudformation = CloudFormation(server.context)
    yield Cloud(server.context, server.front.cloudformation, server.deployments)
    asyncio.run(server.front.cloudformation.stop())
