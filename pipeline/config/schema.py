"""What onnxship.yaml may say: every section, its keys, their ranges and defaults."""

from __future__ import annotations

import ipaddress
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

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

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")]


def _ipv4_network(value: str) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as error:
        raise ValueError(f"is no range of IPv4 addresses: {error}") from error


Cidr = Annotated[str, AfterValidator(_ipv4_network)]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class Section(BaseModel):
    """A part of the file: no unknown keys, no changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


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
    target: Literal["cpu"] = "cpu"
    builder: Literal["docker", "layers"] = "docker"
    base: str | None = None


class QualityFloor(Section):
    metric: Literal["accuracy"] = "accuracy"
    at_least: Annotated[float, Field(ge=0, le=1)]
    not_worse_than_live_by: Annotated[float, Field(ge=0, le=1)] | None = None


class Tolerance(Section):
    rtol: Annotated[float, Field(ge=0)] = 1e-3
    atol: Annotated[float, Field(ge=0)] = 1e-5


class Predict(Section):
    """Which tensors `/predict` speaks of; left out, they are taken from the model's own signature."""

    input: str | None = None
    label: str | None = None
    probabilities: str | None = None


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


Strategy = Literal["BLUE_GREEN", "CANARY", "LINEAR", "ROLLING"]
Minutes = Annotated[int, Field(ge=0, le=1440)]
# Percentages are multiples of 0.1:
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CanaryConfiguration.html


class Canary(Section):
    """CANARY's first step."""

    percent: Annotated[float, Field(ge=0.1, le=100, multiple_of=0.1)] = 5
    bake_minutes: Minutes = 10


class Linear(Section):
    """LINEAR's steps, all alike."""

    step_percent: Annotated[float, Field(ge=3, le=100, multiple_of=0.1)] = 10
    step_bake_minutes: Minutes = 6


class Rollout(Section):
    strategy: Strategy = "BLUE_GREEN"
    canary: Canary | None = None
    linear: Linear | None = None
    bake_minutes: Minutes = 10
    start_deadline_s: Annotated[int, Field(ge=10, le=86400)] = 300
    max_failed_tasks: Annotated[int, Field(ge=1, le=20)] = 3

    @model_validator(mode="after")
    def _blocks_belong_to_their_strategy(self) -> Rollout:
        for block, strategy in (("canary", "CANARY"), ("linear", "LINEAR")):
            if getattr(self, block) is not None and self.strategy != strategy:
                raise ValueError(
                    f"`{block}` belongs to strategy {strategy}, and strategy is {self.strategy}; "
                    f"set `strategy: {strategy}`, or remove `{block}`"
                )
        return self

    @property
    def is_gated(self) -> bool:
        """Whether gates judge a release before production reaches it; ROLLING has nothing to wait at."""
        return self.strategy != "ROLLING"

    @property
    def canary_step(self) -> Canary:
        return self.canary or Canary()

    @property
    def linear_steps(self) -> Linear:
        return self.linear or Linear()

    @property
    def shift_minutes(self) -> int:
        """How long production takes from its first step to all of it; ECS does not wait after the last step."""
        if self.strategy == "CANARY":
            return self.canary_step.bake_minutes
        if self.strategy == "LINEAR":
            return (math.ceil(100 / self.linear_steps.step_percent) - 1) * self.linear_steps.step_bake_minutes
        return 0

    def maximum_percent(self, tasks: int) -> int:
        """How many tasks may run during a deployment, in percent of those that should.

        ROLLING is for capacity that cannot double. ECS rounds down, and one more than all must be allowed, or nothing
        is ever replaced: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
        """
        return 200 if self.is_gated else max(150, math.ceil(100 * (tasks + 1) / tasks))

    def at_once(self, live_strategy: str) -> Rollout:
        """All of the traffic in one step and no bake, for going back to what has proved itself.

        By the strategy that the service has, whatever was written here since: going back waits for no `deploy`.
        """
        strategy = "ROLLING" if live_strategy == "ROLLING" else "BLUE_GREEN"
        return self.model_copy(update={"strategy": strategy, "canary": None, "linear": None, "bake_minutes": 0})


ENOUGH_PAIRS = 60  # the comparison wants 50 answers of each side; a few may fail or come too late


class Load(Section):
    rps: Annotated[float, Field(gt=0, le=10000)] = 50
    duration_s: Annotated[int, Field(ge=1, le=900)] = 60
    min_requests: Annotated[int, Field(ge=1)] = 500
    p99_ms: Annotated[float, Field(gt=0)] = 200
    max_failure_ratio: Annotated[float, Field(ge=0, le=1)] = 0.001
    kind: Literal["predict", "infer"] = "predict"
    requests: str | None = None


class AgainstLive(Section):
    """The new release beside what serves: pairs of requests at the same rate, after the load."""

    rps: Annotated[float, Field(gt=0, le=1000)] = 10
    duration_s: Annotated[int, Field(ge=1, le=300)] = 30
    max_latency_ratio: Annotated[float, Field(ge=1, le=100)] = 1.5

    @model_validator(mode="after")
    def _gives_enough_pairs(self) -> AgainstLive:
        if self.rps * self.duration_s < ENOUGH_PAIRS:
            raise ValueError(
                f"rps {self.rps:g} x duration_s {self.duration_s} gives {self.rps * self.duration_s:g} pairs of "
                f"requests, too few to compare; {ENOUGH_PAIRS} are needed, 300 see most of a slow tail"
            )
        return self


class Gate(Section):
    from_: Annotated[Literal["vpc", "runner"], Field(alias="from")] = "vpc"
    runner_cidr: Cidr | None = None
    load: Load = Load()
    against_live: AgainstLive | None = AgainstLive()


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
