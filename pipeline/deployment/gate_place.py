"""Where the gate's one-off tasks run, what they are, and how they find the load balancer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.aws import ecr
from pipeline.aws.cloudformation import outputs
from pipeline.aws.ec2 import load_balancer_addresses
from pipeline.aws.ecs import describe_task_definition
from pipeline.aws.session import Aws
from pipeline.aws.tasks import describe_task, register_once, running_tasks, stop_task, tasks_started_by
from pipeline.building.gate_image import COMMAND, gate_context, gate_tag
from pipeline.config import Config, ExistingVpc
from pipeline.deployment.place import gate_family
from pipeline.errors import AwsError, StateUnknown, UsageError
from pipeline.waiting import Clock, wait_until

CONTAINER = "gate"
STARTED_BY = "onnxship-gate"
NOBODY_WAITS = "Nobody waits for it any more."
LOG_PREFIX = "gate"
CPU, MEMORY_MIB = "1024", "2048"  # Locust is one process: a vCPU of its own, so that it measures the server, not itself
USER = "10001:10001"
SECRET = "ONNXSHIP_GATE_SECRET"  # noqa: S105 - the variable's name
STOP_WITHIN_S = 300  # a container has half a minute, its network interface goes after it
NEEDED = (
    "RepositoryName", "RepositoryUri", "ArtifactBucketName", "ClusterName", "GateSecurityGroupId", "LogGroupName",
    "GateSecretArn", "GateTaskRoleArn", "GateExecutionRoleArn",
)  # fmt: skip
STACKS = ("registry", "network", "cluster", "runtime")


@dataclass(frozen=True, slots=True)
class GatePlace:
    """The stacks' outputs by name, and the subnets."""

    config: Config
    aws: Aws
    service: str
    values: Mapping[str, str]
    subnets: tuple[str, ...]

    def __getitem__(self, name: str) -> str:
        """An output. Raises UsageError when the stacks are older than these gates."""
        try:
            return self.values[name]
        except KeyError:
            raise UsageError(
                f"No stack has the output {name}, which a gate in the VPC needs.",
                "run `onnxship bootstrap`, then `onnxship deploy`; or set services.<name>.gate.from: runner",
            ) from None

    @property
    def family(self) -> str:
        """Of the gate's task definitions."""
        return gate_family(self.config, self.service)

    @property
    def tags(self) -> dict[str, str]:
        names = {"project": self.config.project, "environment": self.config.environment_name, "service": self.service}
        return {f"onnxship:{key}": value for key, value in names.items()}

    def task_definition(self) -> str:
        """The ARN of the gate's task definition, whose image is this version's, else the last that there was.

        Raises UsageError when no image of the gate was ever built.
        """
        if digest := self._image_digest():
            request = task_definition_request(self, f"{self['RepositoryUri']}@{digest}")
            return str(register_once(self.aws, request)["taskDefinitionArn"])
        return self._last_definition()

    def check(self) -> None:
        """Raise UsageError when a gate's task could not be started. Reads only, for before a deployment begins."""
        for name in NEEDED:
            self[name]
        if not self._image_digest():
            self._last_definition()
        self.addresses()

    @property
    def _image_tag(self) -> str:
        return gate_tag(gate_context(self.config, self.service))

    def _image_digest(self) -> str | None:
        return ecr.digest_of_tag(self.aws, self["RepositoryName"], self._image_tag)

    def _last_definition(self) -> str:
        latest = describe_task_definition(self.aws, self.family)
        if latest is None:
            raise UsageError(
                f"There is no image {self._image_tag} in {self['RepositoryName']} for the gate's task.",
                "run `onnxship build`, which makes it; or set services.<name>.gate.from: runner",
            )
        return str(latest["taskDefinitionArn"])

    def addresses(self) -> list[str]:
        """The load balancer's private addresses where its name leads to others; else none.

        A rule for a security group covers private addresses alone, so a NAT gateway would be no way round either.
        https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
        """
        if self.config.edge.scheme == "internal":
            return []
        name = self["LoadBalancerFullName"]
        if not (found := load_balancer_addresses(self.aws, name)):
            raise AwsError(
                f"EC2 shows no network interface of load balancer {name}.",
                "run the same command again, or `onnxship doctor`",
            )
        return found


def find_gate_place(config: Config, aws: Aws, service: str) -> GatePlace:
    """The place of the service's gate."""
    values: dict[str, str] = {}
    for stack in STACKS:
        values |= outputs(aws, config.stack_name(stack, service if stack == "runtime" else None))
    vpc = config.network.vpc
    own = vpc.private_subnets if isinstance(vpc, ExistingVpc) else values.get("PrivateSubnetIds", "").split(",")
    return GatePlace(config, aws, service, values, tuple(own))


def stop_gates(aws: Aws, cluster: str, family: str) -> None:
    """Stop the gate's tasks of a service that run, whoever began them: one of its gates runs at a time."""
    for arn in running_tasks(aws, cluster, family, STARTED_BY):
        stop_task(aws, cluster, arn, NOBODY_WAITS)


def end_all_gates(aws: Aws, clock: Clock, cluster: str, interval_s: float) -> None:
    """Stop the tasks of all gates in a cluster, and wait until none runs: one would hold the cluster."""
    arns = tasks_started_by(aws, cluster, STARTED_BY)
    for arn in arns:
        stop_task(aws, cluster, arn, NOBODY_WAITS)

    def ended() -> bool | None:
        seen = [describe_task(aws, cluster, arn) for arn in arns]
        return True if all(task is None or task.has_stopped for task in seen) else None

    wait_until(
        ended, clock=clock, timeout_s=STOP_WITHIN_S, interval_s=interval_s,
        on_timeout=lambda: StateUnknown(
            f"A gate's task in cluster {cluster} has not stopped within {STOP_WITHIN_S} s: {', '.join(arns)}.",
            "run the same command again",
        ),
    )  # fmt: skip


def task_definition_request(place: GatePlace, image: str) -> dict[str, Any]:
    """The RegisterTaskDefinition request: read-only root, /tmp a volume, the header's secret from Secrets Manager."""
    region = place.config.environment.region
    values = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108
    container = {
        "name": CONTAINER,
        "image": image,
        "command": list(COMMAND),
        "essential": True,
        "user": USER,
        "readonlyRootFilesystem": True,
        "linuxParameters": {"initProcessEnabled": True},
        "mountPoints": [{"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False}],  # noqa: S108
        "environment": [{"name": name, "value": value} for name, value in sorted(values.items())],
        "secrets": [{"name": SECRET, "valueFrom": place["GateSecretArn"]}],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": place["LogGroupName"],
                "awslogs-region": region,
                "awslogs-stream-prefix": LOG_PREFIX,
            },
        },
    }
    return {
        "family": place.family,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": CPU,
        "memory": MEMORY_MIB,
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "executionRoleArn": place["GateExecutionRoleArn"],
        "taskRoleArn": place["GateTaskRoleArn"],
        "volumes": [{"name": "tmp"}],
        "containerDefinitions": [container],
        "tags": [{"key": key, "value": value} for key, value in place.tags.items()],
    }
