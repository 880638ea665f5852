"""Where one service's deployments happen: names from the stacks' outputs, joined once."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.aws.cloudformation import describe_stack, outputs
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import LockPlace
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """A service's cluster, its edge, and what the gate needs to reach its new tasks."""

    environment: str
    service_key: str
    cluster: str
    service: str
    production_url: str
    test_url: str
    test_port: int
    security_group_id: str
    gate_secret_arn: str
    log_group: str
    gate_security_group_id: str = ""
    gate_family: str = ""

    @property
    def scalable_resource_id(self) -> str:
        return f"service/{self.cluster}/{self.service}"

    @property
    def options(self) -> str:
        """What a command on the same service takes."""
        return f"--env {self.environment} --service {self.service_key}"


def gate_family(config: Config, service: str) -> str:
    """Of the task definitions of the service's gates: no service can be called so, whose name has no underscore."""
    return f"{config.project}-{config.environment_name}-{service}_gate"


def find_place(config: Config, aws: Aws, service: str) -> Place:
    """The place of a service that exists. Raises UsageError when its stack was never created."""
    created = outputs(aws, config.stack_name("service", service))
    if "ServiceName" not in created:
        raise UsageError(
            f"`{service}` is not deployed in `{config.environment_name}`: stack "
            f"{config.stack_name('service', service)} does not exist or is not complete.",
            f"run `onnxship ship --env {config.environment_name} --service {service}`",
        )
    return _place(config, aws, service, created["ServiceName"])


def find_place_at_creation(config: Config, aws: Aws, service: str) -> Place | None:
    """The place of a service that CloudFormation is about to create; None until ECS knows the service."""
    stack = describe_stack(aws, config.stack_name("service", service))
    if stack is None or not stack.status.startswith("CREATE_"):
        return None  # what stands there is the leftover of an earlier creation, which is deleted first
    resources = aws.call("cloudformation", "describe_stack_resources", StackName=stack.id)["StackResources"]
    arns = [r.get("PhysicalResourceId") for r in resources if r["ResourceType"] == "AWS::ECS::Service"]
    if not arns or not arns[0]:
        return None
    return _place(config, aws, service, arns[0].rsplit("/", 1)[-1])


def _place(config: Config, aws: Aws, service: str, service_name: str) -> Place:
    cluster = outputs(aws, config.stack_name("cluster"))
    runtime = outputs(aws, config.stack_name("runtime", service))
    edge = config.edge
    # A certificate is made out to the domain, not to the load balancer's own name.
    host = edge.domain if edge.certificate_arn and edge.domain else cluster["LoadBalancerDnsName"]
    is_default_port = edge.listens_on == (443 if edge.certificate_arn else 80)
    return Place(
        environment=config.environment_name,
        service_key=service,
        cluster=cluster["ClusterName"],
        service=service_name,
        production_url=f"{edge.url_scheme}://{host}" + ("" if is_default_port else f":{edge.listens_on}"),
        test_url=f"{edge.url_scheme}://{host}:{edge.test_port}",
        test_port=edge.test_port,
        security_group_id=cluster["LoadBalancerSecurityGroupId"],
        gate_secret_arn=runtime["GateSecretArn"],
        log_group=runtime["LogGroupName"],
        gate_security_group_id=cluster.get("GateSecurityGroupId", ""),
        gate_family=gate_family(config, service),
    )


def artifact_bucket(config: Config, aws: Aws) -> str:
    """The bucket of records, locks and models. Raises UsageError before `bootstrap`."""
    bucket = outputs(aws, config.stack_name("registry")).get("ArtifactBucketName")
    if not bucket:
        raise UsageError(
            f"Stack {config.stack_name('registry')} does not exist: there is no bucket for releases.",
            f"run `onnxship bootstrap --env {config.environment_name}`",
        )
    return bucket


def ledger_of(config: Config, aws: Aws, service: str) -> Ledger:
    """The service's releases."""
    return Ledger(aws, artifact_bucket(config, aws), config.environment_name, service)


def lock_place(config: Config, aws: Aws, service: str) -> LockPlace:
    """Where the service's lock lies."""
    return LockPlace(artifact_bucket(config, aws), config.environment_name, service)
