"""The way to the new tasks, open for a gate's length: test port, secret header, no scale-out.

The test port has no standing ingress. With `gate.from: vpc` it is opened to the security group of the gate's own
tasks, with `runner` to the address of the machine that runs the pipeline. What a killed run left open carries its
service and expiry as a tag and is closed at the next opening, or when the run's deployment is stopped, as is the gate's
task; scale-out is allowed again at every end, whoever held it back.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from pipeline.aws.ec2 import close_ingress, close_leftovers, open_ingress
from pipeline.aws.scaling import is_scalable, scale_out_is_suspended, suspend_scale_out
from pipeline.aws.secrets import secret_value
from pipeline.aws.session import Aws
from pipeline.config import Gate
from pipeline.deployment.gate_place import stop_gates
from pipeline.deployment.place import Place
from pipeline.errors import AwsError, UsageError
from pipeline.results import Target
from pipeline.waiting import Clock

GATE_HEADER = "X-Onnxship-Gate"
CALLER_URL = "https://checkip.amazonaws.com"
OPEN_FOR = timedelta(minutes=40)  # longer than any PAUSE hook of ours waits
Caller = Callable[[Place], str]


def caller_of(gate: Gate) -> Caller:
    """Who calls the test listener: a security group, or a range of addresses. Asked only when the port is opened.

    So a machine that cannot tell its own address can still do all that needs no gate.
    """
    if gate.from_ == "vpc":
        return _gates_group
    return lambda _: gate.runner_cidr or caller_cidr()


def _gates_group(place: Place) -> str:
    if not place.gate_security_group_id:
        raise UsageError(
            "The cluster's stack has no security group for gates in the VPC: it is older than they are.",
            f"run `onnxship deploy {place.options}`; or set services.<name>.gate.from: runner",
        )
    return place.gate_security_group_id


@contextmanager
def open_gate(
    aws: Aws, clock: Clock, place: Place, *, caller: Caller, intend: Callable[[str], None]
) -> Iterator[Target]:
    """The test listener as a target, reachable for `caller` until the block ends."""
    group, owner, source = place.security_group_id, place.service, caller(place)
    close_leftovers(aws, group, owner, clock.now())
    intend(f"ec2:AuthorizeSecurityGroupIngress {group} port {place.test_port} from {source}")
    rule_id = open_ingress(aws, group, place.test_port, source, owner, clock.now() + OPEN_FOR)
    try:
        with _no_scale_out(aws, place.scalable_resource_id):
            yield Target(place.test_url, gate_headers(aws, place.gate_secret_arn))
    finally:
        if rule_id:
            close_ingress(aws, group, rule_id, owner, clock.now())


def gate_headers(aws: Aws, secret_arn: str) -> dict[str, str]:
    """What a gate's requests carry: the test listener's rule wants it, and a server that asks for API keys."""
    return {GATE_HEADER: secret_value(aws, secret_arn)}


def clear_gate(aws: Aws, clock: Clock, place: Place) -> None:
    """Stop what a killed gate of the service left running, close what it left open, let production scale out again.

    For when no deployment of the service runs, so that no living gate needs it: the test listener leads to what
    serves then, and a load test would load that.
    """
    try:
        stop_gates(aws, place.cluster, place.gate_family)
    finally:
        close_leftovers(aws, place.security_group_id, place.service, clock.now())
        if scale_out_is_suspended(aws, place.scalable_resource_id):
            suspend_scale_out(aws, place.scalable_resource_id, suspended=False)


def caller_cidr() -> str:
    """This machine's public address as a /32, asked from AWS."""
    try:
        with urllib.request.urlopen(CALLER_URL, timeout=10) as answer:
            return f"{answer.read().decode().strip()}/32"
    except OSError as error:
        raise AwsError(
            f"{CALLER_URL} did not tell this machine's public address: {error}",
            "set services.<name>.gate.runner_cidr in onnxship.yaml",
        ) from error


@contextmanager
def _no_scale_out(aws: Aws, resource_id: str) -> Iterator[None]:
    if not is_scalable(aws, resource_id):
        yield
        return
    suspend_scale_out(aws, resource_id, suspended=True)
    try:
        yield
    finally:
        suspend_scale_out(aws, resource_id, suspended=False)
