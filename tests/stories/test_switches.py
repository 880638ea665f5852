"""Twenty switches back and forth under load: no request fails, and every socket is served to its end.

v2 is promoted and rolled back ten times by real blue-green deployments, behind one load balancer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.conftest import Pusher, await_up, client_of, image_of, start_rehearsal
from tests.stories.switches import MESSAGE_EVERY_S, REQUESTS_PER_SECOND, SOCKETS, Users

pytestmark = [pytest.mark.story, pytest.mark.long, pytest.mark.timeout(400)]
SWITCHES = 20
DEREGISTRATION_DELAY_S = 10
TASKS = 2
ENDED = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")
NOTHING = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]


@dataclass
class Service:
    """An ECS service of the echo image behind a load balancer, and what switches it."""

    ecs: Any
    elbv2: Any
    url: str
    releases: dict[str, str]

    def switch(self, release: str) -> float:
        """Deploy a release; gives the seconds from the call to the deployment's end, old tasks gone."""
        begun = time.monotonic()
        self.ecs.update_service(cluster="echo", service="echo", taskDefinition=self.releases[release])
        (newest,) = until(lambda: self._deployments_of(release), "the deployment did not begin")
        ended = until(lambda: self._ended(newest["serviceDeploymentArn"]), "the deployment did not end")
        assert "SUCCESSFUL" == ended["status"], ended
        return time.monotonic() - begun

    def _deployments_of(self, release: str) -> list[dict[str, Any]]:
        (newest, *_) = self.ecs.list_service_deployments(cluster="echo", service="echo")["serviceDeployments"]
        revisions = self.ecs.describe_service_revisions(serviceRevisionArns=[newest["targetServiceRevisionArn"]])
        (revision,) = revisions["serviceRevisions"]
        return [newest] if revision["taskDefinition"] == self.releases[release] else []

    def _ended(self, arn: str) -> dict[str, Any] | None:
        (deployment,) = self.ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
        return deployment if deployment["status"] in ENDED else None


def until(what: Callable[[], Any], otherwise: str, timeout_s: float = 90.0) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A rehearsal with the echo service in it, release v1, two healthy tasks."""
    state_dir = tmp_path_factory.mktemp("switches")
    process = start_rehearsal(state_dir)
    try:
        yield made(await_up(process, state_dir))
    finally:
        process.terminate()
        process.wait(30)


def made(up: dict[str, Any]) -> Service:
    """Load balancer, two target groups behind one rule, image, cluster and service."""
    ecs, elbv2, ec2, ecr = (client_of(up["endpoint"], name) for name in ("ecs", "elbv2", "ec2", "ecr"))
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    zones = [("a", "10.9.0.0/24"), ("b", "10.9.1.0/24")]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{up['region']}{zone}")["Subnet"]["SubnetId"]
        for zone, block in zones
    ]
    port, rule, groups = _balanced(elbv2, vpc, subnets)
    ecr.create_repository(repositoryName="echo")
    image = image_of({"app/app.py": (Path(__file__).parent / "echo_service.py").read_text()})
    digest = Pusher(ecr).push("echo", image, "v1")
    releases = {name: _release(ecs, f"{up['registry']}/echo@{digest}", name) for name in ("v1", "v2")}
    ecs.create_cluster(clusterName="echo")
    ecs.create_service(
        cluster="echo",
        serviceName="echo",
        taskDefinition=releases["v1"],
        desiredCount=TASKS,
        healthCheckGracePeriodSeconds=60,
        networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
        loadBalancers=[_balancer(groups, rule)],
        deploymentConfiguration={"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0},
    )
    service = Service(ecs, elbv2, f"http://127.0.0.1:{port}", releases)
    (first,) = until(lambda: service._deployments_of("v1"), "the service was not created")
    until(lambda: service._ended(first["serviceDeploymentArn"]), "the first release did not come up")
    return service


def _balanced(elbv2: Any, vpc: str, subnets: list[str]) -> tuple[int, str, list[str]]:
    """Port, governed rule and both target groups of a new load balancer."""
    balancer = elbv2.create_load_balancer(Name="echo", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    port = _free_port()
    listener = elbv2.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=NOTHING)
    groups = [_target_group(elbv2, vpc, colour) for colour in ("blue", "green")]
    weights = [{"TargetGroupArn": group, "Weight": weight} for group, weight in zip(groups, (100, 0), strict=True)]
    rule = elbv2.create_rule(
        ListenerArn=listener["Listeners"][0]["ListenerArn"],
        Priority=1,
        Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
        Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}],
    )
    return port, rule["Rules"][0]["RuleArn"], groups


def _target_group(elbv2: Any, vpc: str, colour: str) -> str:
    health = {"HealthCheckPath": "/health", "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 4}
    made = elbv2.create_target_group(Name=colour, Protocol="HTTP", Port=8080, VpcId=vpc, TargetType="ip", **health)
    arn = str(made["TargetGroups"][0]["TargetGroupArn"])
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": str(DEREGISTRATION_DELAY_S)}
    elbv2.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
    return arn


def _balancer(groups: list[str], rule: str) -> dict[str, Any]:
    governed = {
        "alternateTargetGroupArn": groups[1],
        "productionListenerRule": rule,
        "roleArn": "arn:aws:iam::111122223333:role/infrastructure",
    }
    return {
        "containerName": "echo",
        "containerPort": 8080,
        "targetGroupArn": groups[0],
        "advancedConfiguration": governed,
    }


def _release(ecs: Any, image: str, name: str) -> str:
    container = {
        "name": "echo",
        "image": image,
        "portMappings": [{"containerPort": 8080}],
        "environment": [{"name": "RELEASE", "value": name}],
        "readonlyRootFilesystem": True,
        "stopTimeout": 20,
    }
    made = ecs.register_task_definition(
        family="echo",
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return str(made["taskDefinition"]["taskDefinitionArn"])


def _free_port() -> int:
    code = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_twenty_switches_cost_no_request_and_no_message(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests on a schedule all succeed; a socket keeps its target, gets every answer, and ends by the service."""
    with Users(service.url) as users:
        until(lambda: len(users.seen.sessions) >= SOCKETS, "the users did not come")
        switches_s = [service.switch("v2" if number % 2 == 0 else "v1") for number in range(SWITCHES)]
    seen = users.seen

    with capsys.disabled():
        sys.stderr.write(
            f"\n{SWITCHES} switches of {statistics.median(switches_s):.1f} s (longest {max(switches_s):.1f} s), "
            f"{sum(seen.requests.values())} requests ({len(seen.failures)} failed) by {len(seen.requests)} targets, "
            f"{seen.messages} messages in {len(seen.sessions)} sessions of {SOCKETS} sockets, "
            f"p99 {statistics.quantiles(seen.latencies_s, n=100)[98] * 1000:.0f} ms\n"
        )
    assert [] == seen.failures
    assert [] == seen.lost_connections
    assert [] == [session.problem for session in seen.sessions if session.problem]
    assert sum(seen.requests.values()) >= REQUESTS_PER_SECOND * sum(switches_s) * 0.9
    assert len(seen.requests) == TASKS * (SWITCHES + 1)
    assert {target for session in seen.sessions for target in session.targets} <= set(seen.requests)
    assert len(seen.sessions) >= SOCKETS * (SWITCHES + 1)
    assert seen.messages >= SOCKETS * sum(switches_s) / MESSAGE_EVERY_S * 0.5
