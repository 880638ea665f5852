"""The targets of a target group: which are healthy, which gets the next request, and how one leaves."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, int]

INITIAL = ("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
HEALTHY = ("healthy", None, None)
UNUSED = ("unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer")
NOT_REGISTERED = ("unused", "Target.NotRegistered", "Target is not registered to the target group")
DRAINING = ("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")

State = tuple[str, str | None, str | None]


@dataclass(eq=False)
class Target:
    """One registered (ip, port). `state`: State, Reason and Description as DescribeTargetHealth shows them."""

    ip: str
    port: int
    zone: str | None = None
    state: State = INITIAL
    requests: set[asyncio.Task[Any]] = field(default_factory=set)
    cut_off: bool = False
    checking: asyncio.Task[None] | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()
        self.name = f"{self.ip}:{self.port}"

    def begin(self) -> asyncio.Task[Any]:
        """The running request is this target's from now on."""
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        self.idle.clear()
        return task

    def finish(self, request: asyncio.Task[Any]) -> None:
        """The request is over."""
        self.requests.discard(request)
        if not self.requests:
            self.idle.set()


class Pool:
    """The targets of one target group. `attributes` is the group's own dict: a change counts from the next request."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.targets: dict[Key, Target] = {}
        self.draining: dict[Key, Target] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._ready: list[Target] | None = None

    def set_state(self, target: Target, state: State) -> None:
        """The target's new state, which may change who gets requests."""
        target.state = state
        self._ready = None

    def add(self, key: Key, zone: str | None) -> Target | None:
        """Register a target; None when it is registered already."""
        if key in self.targets:
            return None
        self.targets[key] = Target(*key, zone=zone)
        self._ready = None
        return self.targets[key]

    def remove(self, key: Key) -> Target | None:
        """Deregister a target: no new requests, and it drains in the background.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
        """
        target = self.targets.pop(key, None)
        if target is None:
            return None
        self._ready = None
        if target.checking is not None:
            target.checking.cancel()
        if target.requests:
            target.state = DRAINING
            self.draining[key] = target
            drain = asyncio.ensure_future(self._drain(key, target))
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
        return target

    async def _drain(self, key: Key, target: Target) -> None:
        """Wait for the requests in flight, at most the deregistration delay; what runs then is cut off."""
        try:
            async with asyncio.timeout(float(self.attributes["deregistration_delay.timeout_seconds"])):
                await target.idle.wait()
        except TimeoutError:
            target.cut_off = True
            for request in list(target.requests):
                request.cancel()
        if self.draining.get(key) is target:
            del self.draining[key]

    def ready(self) -> list[Target]:
        """The targets that may get requests: the healthy ones, or all of them when none is healthy (fail-open).

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
        """
        if self._ready is None:
            healthy = [target for target in self.targets.values() if target.state[0] == "healthy"]
            self._ready = healthy or list(self.targets.values())
        return self._ready

    def choose(self) -> Target | None:
        """The target for the next request by the group's routing algorithm, None when there is no target.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
        """
        ready = self.ready()
        if not ready:
            return None
        self._turn += 1
        algorithm = self.attributes["load_balancing.algorithm.type"]
        if algorithm == "weighted_random":
            return random.choice(ready)  # noqa: S311 - spreads load, guards nothing
        if algorithm == "least_outstanding_requests":
            start = self._turn % len(ready)
            return min(ready[start:] + ready[:start], key=lambda target: len(target.requests))
        return ready[self._turn % len(ready)]

    def sticky(self, name: str | None) -> Target | None:
        """The target a stickiness cookie names, when it may still get requests."""
        return next((target for target in self.ready() if target.name == name), None) if name else None

    def count(self, state: str) -> int:
        """How many registered targets are in `state`."""
        return sum(target.state[0] == state for target in self.targets.values())

    def close(self) -> None:
        """Stop checking and draining."""
        for target in self.targets.values():
            if target.checking is not None:
                target.checking.cancel()
        for drain in self._drains:
            drain.cancel()
