"""The whole local AWS at once, with boto3 only: push, create a stack, deploy blue-green under load, delete, down."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.story

TEMPLATE = (Path(__file__).parent / "whole.yaml").read_text()
GATE = {"X-Gate": "open-sesame"}
APP = """
import os, signal, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"VERSION")

    def log_message(self, *words):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serving VERSION", flush=True)
server.serve_forever()
"""


class World:
    """A rehearsal of the test's own, and what the test does in it."""

    def __init__(self, up: dict[str, Any], client_of: Callable[..., Any], oci: SimpleNamespace) -> None:
        self.up = up
        self.ecr, self.ecs, self.cloudformation, self.logs = (
            client_of(up["endpoint"], service) for service in ("ecr", "ecs", "cloudformation", "logs")
        )
        self._oci = oci

    def task_definition(self, version: str) -> str:
        """Push an image that answers `version`; gives the ARN of a task definition that runs it."""
        image = self._oci.image_of({"app/app.py": APP.replace("VERSION", version)})
        self._oci.Pusher(self.ecr).push("whole", image, version)
        answer = self.ecs.register_task_definition(
            family="whole",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": "app",
                    "image": f"{self.up['registry']}/whole@{image.digest}",
                    "essential": True,
                    "portMappings": [{"containerPort": 8080, "name": "http", "protocol": "tcp"}],
                    "environment": [{"name": "PORT", "value": "8080"}],
                    "stopTimeout": 10,
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {
                            "awslogs-group": "/whole/app",
                            "awslogs-region": "eu-west-1",
                            "awslogs-stream-prefix": "app",
                        },
                    },
                }
            ],
        )
        return answer["taskDefinition"]["taskDefinitionArn"]

    def settled(self, stack: str) -> str | None:
        """A stack's status once nothing is in progress any more."""
        status = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        return None if status.endswith("_IN_PROGRESS") else str(status)

    def failures(self, name: str) -> list[str]:
        """Why resources of a stack failed, for the test's own messages."""
        events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
            for event in events
            if "FAILED" in event["ResourceStatus"]
        ]

    def deployments(self) -> list[dict[str, Any]]:
        """The service's deployments, the newest first."""
        if not self.ecs.describe_services(cluster="whole", services=["app"])["services"]:
            return []
        briefs = self.ecs.list_service_deployments(cluster="whole", service="app")["serviceDeployments"]
        arns = [brief["serviceDeploymentArn"] for brief in briefs]
        return self.ecs.describe_service_deployments(serviceDeploymentArns=arns)["serviceDeployments"] if arns else []

    def continue_hooks(self, deployment: dict[str, Any]) -> list[str]:
        """Answer CONTINUE to every hook that waits; gives their ids."""
        waiting = [
            hook["hookId"] for hook in deployment.get("lifecycleHookDetails", []) if hook["status"] == "AWAITING_ACTION"
        ]
        for hook_id in waiting:
            self.ecs.continue_service_deployment(
                serviceDeploymentArn=deployment["serviceDeploymentArn"], hookId=hook_id, action="CONTINUE"
            )
        return waiting


class Load:
    """Requests to the production port from a few threads until it ends; what was answered."""

    def __init__(self, url: str, threads: int = 3) -> None:
        self.answers: Counter[str] = Counter()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        with httpx.Client(timeout=10) as http:
            while not self._ending.wait(0.01):
                try:
                    answer = http.get(url)
                    self.answers[answer.text if answer.status_code == 200 else str(answer.status_code)] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for probe in sockets:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in sockets]
    for probe in sockets:
        probe.close()
    return ports


def until(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def processes_of(state_dir: Path) -> list[str]:
    """Every process that belongs to the rehearsal of `state_dir`: its own and its tasks' guardians name it."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(state_dir) in line]


def pids_of_tasks(state_dir: Path) -> list[int]:
    """The tasks' own processes, as their guardians wrote them down."""
    files = (state_dir / "tasks").rglob("*.pid")
    return [int(line.split()[0]) for file in files for line in file.read_text().splitlines()]


def is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
def rehearsal(tmp_path: Path, ports: list[int], supervised: SimpleNamespace) -> Iterator[subprocess.Popen[str]]:
    """A rehearsal that keeps the two ports free for the listeners."""
    reserved = [str(port) for port in ports]
    process = supervised.start(tmp_path, "--seconds-per-minute", "1", "--reserve-port", *reserved)
    yield process
    process.kill()
    process.wait(10)


@pytest.fixture
def world(rehearsal: subprocess.Popen[str], tmp_path: Path, supervised: SimpleNamespace, oci: SimpleNamespace) -> World:
    """The rehearsal up, with an empty repository."""
    world = World(supervised.await_up(rehearsal, tmp_path), supervised.client_of, oci)
    world.ecr.create_repository(repositoryName="whole", imageTagMutability="IMMUTABLE")
    return world


def begin_stack(world: World, ports: list[int]) -> None:
    """The stack, being created."""
    values = {
        "ProductionPort": str(ports[0]),
        "TestPort": str(ports[1]),
        "TaskDefinitionArn": world.task_definition("v1"),
    }
    world.cloudformation.create_stack(
        StackName="whole",
        TemplateBody=TEMPLATE,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
    )


def create_stack(world: World, ports: list[int]) -> None:
    """The stack with version 1 in service; hooks that run at the service's creation are answered."""
    begin_stack(world, ports)

    def created() -> str | None:
        status = world.settled("whole")
        if status is None and world.ecs.list_clusters()["clusterArns"]:
            for deployment in world.deployments():
                world.continue_hooks(deployment)
        return status

    assert until(created) == "CREATE_COMPLETE", world.failures("whole")


def test_a_release_goes_from_push_to_production_without_a_failed_request(
    world: World, rehearsal: subprocess.Popen[str], ports: list[int], tmp_path: Path
) -> None:
    """The test port shows v2 while production still answers v1; then v2 takes over, and no request fails."""
    production, test = (f"http://127.0.0.1:{port}/" for port in ports)
    create_stack(world, ports)
    assert httpx.get(production).text == "v1"
    assert httpx.get(test).status_code == 403
    outputs = world.cloudformation.describe_stacks(StackName="whole")["Stacks"][0]["Outputs"]
    assert {output["OutputKey"]: output["OutputValue"] for output in outputs}["DnsName"] == "127.0.0.1"

    second = world.task_definition("v2")
    with Load(production) as load:
        world.ecs.update_service(cluster="whole", service="app", taskDefinition=second)
        paused = until(lambda: next((d for d in world.deployments() if waits(d)), None))
        assert paused["lifecycleStage"] == "POST_TEST_TRAFFIC_SHIFT"
        assert httpx.get(test, headers=GATE).text == "v2"
        assert {httpx.get(production).text for _ in range(10)} == {"v1"}
        world.continue_hooks(paused)
        done = until(lambda: _ended(world, paused["serviceDeploymentArn"]))
    assert done == "SUCCESSFUL"
    assert set(load.answers) == {"v1", "v2"}
    assert httpx.get(production).text == "v2"
    _weights_moved_once(world, ports[0])
    _every_request_is_in_the_access_log(world, ports[0], sum(load.answers.values()))
    messages = {event["message"] for event in world.logs.filter_log_events(logGroupName="/whole/app")["events"]}
    assert {"serving v1", "serving v2"} <= messages

    stack = world.cloudformation.describe_stacks(StackName="whole")["Stacks"][0]["StackId"]
    world.cloudformation.delete_stack(StackName=stack)
    assert until(lambda: world.settled(stack)) == "DELETE_COMPLETE", world.failures(stack)
    for url in (production, test):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    assert pids_of_tasks(tmp_path) == []
    rehearsal.send_signal(signal.SIGTERM)
    assert rehearsal.wait(20) == 0
    assert processes_of(tmp_path) == []
    assert "did not stop cleanly" not in (tmp_path / "rehearsal.log").read_text()


def test_a_listener_whose_port_somebody_took_fails_with_that_reason(world: World, ports: list[int]) -> None:
    """The stack rolls back, and the Listener's own event names the port and the process that has it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        begin_stack(world, [port, ports[1]])
        assert until(lambda: world.settled("whole")) == "ROLLBACK_COMPLETE"
    (reason,) = [failure for failure in world.failures("whole") if failure.startswith("ProductionListener: ")]
    assert f"Port {port} of 127.0.0.1 is in use by process {os.getpid()} (" in reason
    assert "Fix: end what has it, or choose another port" in reason


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_tasks_end_with_their_rehearsal_however_it_ends(
    world: World, rehearsal: subprocess.Popen[str], ports: list[int], tmp_path: Path, number: int, code: int
) -> None:
    """Asked to end, in the middle of a deployment too, or killed: the tasks are gone within seconds."""
    create_stack(world, ports)
    world.ecs.update_service(cluster="whole", service="app", taskDefinition=world.task_definition("v2"))
    until(lambda: any(waits(deployment) for deployment in world.deployments()))
    pids = pids_of_tasks(tmp_path)
    assert len(pids) == 8  # two blue and two green tasks, each with its guardian
    rehearsal.send_signal(number)
    assert rehearsal.wait(15) == code
    until(lambda: not any(is_running(pid) for pid in pids), timeout_s=15)
    assert processes_of(tmp_path) == []


def waits(deployment: dict[str, Any]) -> bool:
    return any(hook["status"] == "AWAITING_ACTION" for hook in deployment.get("lifecycleHookDetails", []))


def _ended(world: World, arn: str) -> str | None:
    status = world.ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"][0]["status"]
    return status if status not in ("PENDING", "IN_PROGRESS") else None


def _weights_moved_once(world: World, port: int) -> None:
    changes = httpx.get(f"{world.up['endpoint']}/_rehearsal/weights").json()
    weights = [sorted(change["weights"].values()) for change in changes if change["listener_port"] == port]
    live = [max(change["weights"], key=change["weights"].get) for change in changes if change["listener_port"] == port]
    assert weights == [[0, 100], [0, 100]]
    assert len(set(live)) == 2


def _every_request_is_in_the_access_log(world: World, port: int, at_least: int) -> None:
    lines = httpx.get(f"{world.up['endpoint']}/_rehearsal/access-log").text.splitlines()
    mine = [entry for entry in map(json.loads, lines) if entry["listener_port"] == port]
    assert len(mine) >= at_least
    assert {entry["elb_status"] for entry in mine} == {200}
