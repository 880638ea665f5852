"""The way to the new tasks, open for a gate's length: test port, secret header, no scale-out.

The test port has no standing ingress. What a killed run left open carries its service and expiry as tags and is closed
at the next opening, or when the run's deployment is stopped; scale-out is allowed again at every end, whoever held it
back.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from pipeline.aws.ec2 import close_ingress, leftover_openings, open_ingress
from pipeline.aws.scaling import is_scalable, scale_out_is_suspended, suspend_scale_out
from pipeline.aws.secrets import secret_value
from pipeline.aws.session import Aws
from pipeline.deployment.place import Place
from pipeline.errors import AwsError
from pipeline.results import Target
from pipeline.waiting import Clock

GATE_HEADER = "X-Onnxship-Gate"
CALLER_URL = "https://checkip.amazonaws.com"
OPEN_FOR = timedelta(minutes=40)  # longer than any PAUSE hook of ours waits


@contextmanager
def open_gate(
    aws: Aws, clock: Clock, place: Place, *, runner_cidr: str, intend: Callable[[str], None]
) -> Iterator[Target]:
    """The test listener as a target, reachable from here until the block ends."""
    group = place.security_group_id
    _close_leftovers(aws, clock, place)
    intend(f"ec2:AuthorizeSecurityGroupIngress {group} port {place.test_port} from {runner_cidr}")
    rule_id = open_ingress(aws, group, place.test_port, runner_cidr, place.service, clock.now() + OPEN_FOR)
    try:
        with _no_scale_out(aws, place.scalable_resource_id):
            yield Target(place.test_url, {GATE_HEADER: secret_value(aws, place.gate_secret_arn)})
    finally:
        if rule_id:
            close_ingress(aws, group, [rule_id])


def clear_gate(aws: Aws, clock: Clock, place: Place) -> None:
    """Close what a killed gate of the service left open and let production scale out again.

    For when no deployment of the service runs, so that no living gate needs it.
    """
    _close_leftovers(aws, clock, place)
    if scale_out_is_suspended(aws, place.scalable_resource_id):
        suspend_scale_out(aws, place.scalable_resource_id, suspended=False)


def _close_leftovers(aws: Aws, clock: Clock, place: Place) -> None:
    if leftovers := leftover_openings(aws, place.security_group_id, place.service, clock.now()):
        close_ingress(aws, place.security_group_id, leftovers)


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
