"""A request on its way through the load balancer."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from rehearsal.balancer.estate import Listener
from rehearsal.balancer.targets import Target

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
CLIENT_LEFT = 460


@dataclass(slots=True)
class Visit:
    """What is known of a request while it is on its way."""

    listener: Listener
    request: web.BaseRequest
    started: float
    elb_status: int = CLIENT_LEFT
    target_status: int | None = None
    target_group: str | None = None
    target: Target | None = None
    target_duration_s: float | None = None
    connect_failed: bool = False
