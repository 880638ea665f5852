"""What a deployment may ask of the world: time, the balancer's rules, alarms, and the service's event list."""

from __future__ import annotations

from typing import Protocol

from rehearsal.ecs.state import Revision, Service


class NetworkProblem(Exception):
    """The service's load balancing cannot carry the deployment; the text is ECS's own."""


class Time(Protocol):
    """A clock that a test can turn."""

    def time(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def minutes(self, aws_minutes: float) -> float: ...


class World(Protocol):
    """The outside of the state machine. Tasks are started and stopped by whoever reads the revisions' caps."""

    @property
    def clock(self) -> Time:
        """What time it is."""

    async def place(self, service: Service, target: Revision, source: Revision | None) -> None:
        """Choose the target's target groups; NetworkProblem when the rules do not allow the deployment."""

    async def shift(self, rule: str, weights: dict[str, float]) -> None:
        """Give a rule's target groups their share of the traffic, in percent."""

    async def alarming(self, names: list[str]) -> list[str]:
        """Those of the named alarms that are in ALARM."""

    def event(self, service: Service, message: str) -> None:
        """Add a line to the service's events."""
