"""What onnxship.yaml may say: every section, its keys, their ranges and defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.gate import Gate
from pipeline.config.predict import Predict
from pipeline.config.rollout import Rollout
from pipeline.config.section import Cidr, Section
from pipeline.errors import UsageError

CONFIG_FILE = "onnxship.yaml"
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size
FARGATE_MEMORY_MIB = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}

KEYS_ARN = r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[A-Za-z0-9/_+=.@-]+"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")]


Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class Environment(Section):
    """Where a command acts."""

    account: Annotated[str, Field(pattern=r"^\d{12}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    approval: bool = False


class ExistingVpc(Section):
    """A VPC of the user's own: the network stack is left out."""

    vpc_id: str
    private_subnets: Annotated[list[str], Field(min_length=2)]
    public_subnets: Annotated[list[str], Field(min_length=2)]


class Network(Section):
    vpc: Literal["create"] | ExistingVpc = "create"
    vpc_cidr: Cidr = "10.40.0.0/16"
    egress: Literal["endpoints", "nat"] = "endpoints"


class Edge(Section):
    scheme: Literal["internet-facing", "internal"] = "internet-facing"
    ingress_cidrs: Annotated[list[Cidr], Field(max_length=4)] = []
    domain: str | None = None
    certificate_arn: str | None = None
    allow_http: bool = False
    production_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    test_port: Annotated[int, Field(ge=1, le=65535)] = 9000

    @property
    def listens_on(self) -> int:
        """The production listener's port: 443 with a certificate, 80 without, unless it is named."""
        return self.production_port or (443 if self.certificate_arn else 80)

    @property
    def url_scheme(self) -> str:
        return "https" if self.certificate_arn else "http"


class Image(Section):
    context: str = "."
    dockerfile: str | None = None
    target: Literal["cpu", "gpu"] = "cpu"
    builder: Literal["docker", "layers"] = "docker"
    base: str | None = None


class QualityFloor(Section):
    metric: Literal["accuracy"] = "accuracy"
    at_least: Annotated[float, Field(ge=0, le=1)]
    not_worse_than_live_by: Annotated[float, Field(ge=0, le=1)] | None = None


class Tolerance(Section):
    rtol: Annotated[float, Field(ge=0)] = 1e-3
    atol: Annotated[float, Field(ge=0)] = 1e-5


class Model(Section):
    path: str
    golden: str
    quality: QualityFloor | None = None
    tolerance: Tolerance = Tolerance()
    predict: Predict = Predict()


class Compute(Section):
    type: Literal["fargate"] = "fargate"
    cpu: int = 1024
    memory_mib: int = 2048
    min: Annotated[int, Field(ge=1)] = 2
    max: Annotated[int, Field(ge=1)] = 6

    @field_validator("type", mode="before")
    @classmethod
    def _only_what_is_built(cls, value: str) -> str:
        if value in ("managed-instances", "ec2"):
            raise ValueError(f"`{value}` is not built yet; use `fargate`")
        return value

    @model_validator(mode="after")
    def _fits_fargate(self) -> Compute:
        if self.cpu not in FARGATE_MEMORY_MIB:
            raise ValueError(f"cpu {self.cpu} is not a Fargate size; use one of {sorted(FARGATE_MEMORY_MIB)}")
        if self.memory_mib not in FARGATE_MEMORY_MIB[self.cpu]:
            allowed = FARGATE_MEMORY_MIB[self.cpu]
            raise ValueError(
                f"memory_mib {self.memory_mib} does not go with cpu {self.cpu}; "
                f"Fargate takes {allowed[0]} to {allowed[-1]} MiB in steps ({', '.join(map(str, allowed[:4]))}...)"
            )
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class IgnoredFinding(Section):
    id: str
    reason: Annotated[str, Field(min_length=3)]
    until: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]

    @field_validator("until", mode="before")
    @classmethod
    def _yaml_dates_are_dates(cls, value: object) -> object:
        return value.isoformat() if hasattr(value, "isoformat") else value


class Scan(Section):
    fail_on: Literal["CRITICAL", "HIGH", "MEDIUM", "LOW"] = "HIGH"
    only_fixable: bool = True
    ignore: list[IgnoredFinding] = []


class Route(Section):
    """Which requests reach the service; several services behind one load balancer must not overlap."""

    priority: Annotated[int, Field(ge=1, le=50000)] = 100
    paths: Annotated[list[str], Field(min_length=1, max_length=4)] = ["/*"]


# Settings of the model server (docs/reference/model-service.md).
API_KEYS = "API_KEYS_SECRET_ARN"
PINNED = "changes what is served behind the gates' back: on ECS the model is the release's own"
NOT_ON_ECS = {
    "API_KEYS_FILE": f"names a file in the image; on ECS keys come from a secret: set environment.{API_KEYS}",
    "GATE_KEY_SHA256": f"is set by onnxship itself where there is {API_KEYS}",
    "LOAD_MODELS": PINNED,
    "MODEL_CONTROL": PINNED,
    "MODEL_REPOSITORY_URI": PINNED,
}


class Service(Section):
    kind: Literal["http"] = "http"
    image: Image = Image()
    model: Model
    compute: Compute = Compute()
    rollout: Rollout = Rollout()
    gate: Gate = Gate()
    scan: Scan = Scan()
    route: Route = Route()
    environment: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    secrets: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}

    @field_validator("environment", "secrets", mode="after")
    @classmethod
    def _leaves_to_the_release_what_is_its_own(cls, variables: dict[str, str]) -> dict[str, str]:
        for name in sorted(set(variables) & set(NOT_ON_ECS)):
            raise ValueError(f"{name} {NOT_ON_ECS[name]}; remove it")
        return variables

    @field_validator("secrets", mode="after")
    @classmethod
    def _the_server_reads_its_keys_itself(cls, secrets: dict[str, str]) -> dict[str, str]:
        if API_KEYS in secrets:
            raise ValueError(f"{API_KEYS} is the ARN itself, which the server reads again and again; put it under "
                             "`environment`")  # fmt: skip
        return secrets

    @field_validator("environment", mode="after")
    @classmethod
    def _keys_are_a_secret(cls, variables: dict[str, str]) -> dict[str, str]:
        if API_KEYS in variables and not re.fullmatch(KEYS_ARN, variables[API_KEYS]):
            raise ValueError(f"{API_KEYS} is not the ARN of a secret in Secrets Manager, whole and without a JSON key")
        return variables

    @property
    def api_keys_secret_arn(self) -> str:
        """The secret with the API keys that the service asks for; "" where it asks for none."""
        return self.environment.get(API_KEYS, "")

    @model_validator(mode="after")
    def _a_gpu_is_not_on_fargate(self) -> Service:
        # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
        if self.image.target == "gpu" and self.compute.type == "fargate":
            raise ValueError(
                "image.target is gpu and compute.type is fargate, but Fargate has no GPU; set image.target: cpu "
                "(tasks with a GPU, on EC2 or Managed Instances, are not built yet)"
            )
        return self


class Cost(Section):
    monthly_usd: Annotated[float, Field(gt=0)] = 300
    notify: Annotated[list[Email], Field(max_length=3)] = []


Template = Literal[
    "delivery", "registry", "network", "cluster", "runtime", "service", "observability", "cost", "billing"
]


class Config(Section):
    """One environment of the file, resolved. `directory` is where the file's relative paths start."""

    project: Name
    environment_name: str
    environment: Environment
    network: Network = Network()
    edge: Edge = Edge()
    services: Annotated[dict[Name, Service], Field(min_length=1)]
    cost: Cost = Cost()
    templates: dict[Template, str] = {}
    poll_interval_s: Annotated[float, Field(gt=0, le=60)] = 5
    directory: Path
    path: Path
    overlay: Path | None = None

    @model_validator(mode="after")
    def _routes_do_not_overlap(self) -> Config:
        priorities = [service.route.priority for service in self.services.values()]
        if len(set(priorities)) < len(priorities):
            raise ValueError("services share a route.priority; give each service a priority of its own")
        if len(self.services) > 1 and any("/*" in s.route.paths for s in self.services.values()):
            raise ValueError("with several services none may take the path `/*`; set services.<name>.route.paths")
        return self

    @model_validator(mode="after")
    def _the_gate_can_reach_the_test_listener(self) -> Config:
        if self.edge.certificate_arn and not self.edge.domain:
            raise ValueError(
                "edge: certificate_arn without domain: a certificate is made out to a name; set edge.domain to it"
            )
        for name, service in self.services.items():
            if self.edge.scheme == "internal" and service.gate.from_ == "runner" and service.gate.runner_cidr is None:
                raise ValueError(
                    f"edge.scheme is internal: set services.{name}.gate.from to vpc, or "
                    f"services.{name}.gate.runner_cidr to the private address range that `ship` is run from"
                )
        return self

    @model_validator(mode="after")
    def _plain_http_is_a_choice(self) -> Config:
        if self.edge.certificate_arn is None and not self.edge.allow_http:
            raise ValueError(
                "edge: without certificate_arn requests travel as plain HTTP; "
                "set edge.certificate_arn, or edge.allow_http: true to accept that"
            )
        return self

    @model_validator(mode="after")
    def _keys_do_not_travel_in_the_open(self) -> Config:
        open_to_read = self.edge.certificate_arn is None and self.overlay is None  # a rehearsal is on this machine
        for name, service in self.services.items():
            if service.api_keys_secret_arn and open_to_read:
                raise ValueError(
                    f"services.{name}.environment.{API_KEYS}: without edge.certificate_arn API keys would travel as "
                    "plain text; set edge.certificate_arn and edge.domain"
                )
        return self

    def stack_name(self, template: str, service: str | None = None) -> str:
        """`<project>-<env>[-<service>]-<template>`."""
        middle = [service] if service else []
        return "-".join([self.project, self.environment_name, *middle, template])

    def resolve_service(self, name: str | None) -> str:
        """The service that a command acts on: the named one, or the only one."""
        if name is None and len(self.services) == 1:
            return next(iter(self.services))
        if name is None:
            raise UsageError(
                f"{self.path.name} has {len(self.services)} services: {', '.join(self.services)}.",
                "name one with `--service NAME`",
            )
        if name not in self.services:
            raise UsageError(
                f"{self.path.name} has no service `{name}`; it has {', '.join(self.services)}.",
                f"use `--service {next(iter(self.services))}`, or add services.{name}",
            )
        return name

    def file(self, relative: str) -> Path:
        """A path of the file, from the file's own directory."""
        return (self.directory / relative).resolve()
