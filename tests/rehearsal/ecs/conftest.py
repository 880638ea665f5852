"""A deployment's world in small: a clock that the deployment itself turns, tasks that follow the revisions' caps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rehearsal.ecs.deployments import Rollout
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Container, Deployment, Hook, Revision, Service, Slot, Task
from rehearsal.ecs.world import NetworkProblem
from tests.rehearsal.ecs.servers import make_place

SECONDS_PER_MINUTE = 2.0


class RecordedDeployment(Deployment):
    """A deployment that remembers its stages and statuses."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("stage", "status") and value is not None:
            seen = self.__dict__.setdefault("seen_" + name, [])
            if not seen or seen[-1] != value:
                seen.append(value)
        super().__setattr__(name, value)


class FakeTime:
    """Time that passes when somebody sleeps; then the world moves on by one tick."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._now = 1_000_000.0

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        self._world.tick()
        await asyncio.sleep(0)

    def minutes(self, aws_minutes: float) -> float:
        return aws_minutes * SECONDS_PER_MINUTE


class World:
    """Implements rehearsal.ecs.world.World over plain lists. `each_tick` is a test's own script."""

    def __init__(self) -> None:
        self.clock = FakeTime(self)
        self.service = Service("arn:service/c/s", "s", "arn:cluster/c", {"taskDefinition": "f:1"}, 2, 0.0)
        self.shifts: list[tuple[str, dict[str, float], int]] = []
        self.alarms: list[str] = []
        self.network_problem = ""
        self.healthy = True
        self.drains_slowly = False
        self.each_tick: Callable[[], None] = lambda: None
        self.events: list[str] = []

    async def place(self, service: Service, target: Revision, source: Revision | None) -> None:
        if self.network_problem:
            raise NetworkProblem(self.network_problem)
        ours, other = ("green", "blue") if source and source.slots[0].target_group == "blue" else ("blue", "green")
        target.slots = (Slot("model", 8080, ours, other, "production", "test"),)

    async def shift(self, rule: str, weights: dict[str, float]) -> None:
        group = next(group for group, weight in weights.items() if weight == max(weights.values()))
        healthy = sum(
            len(self.service.healthy(one))
            for one in self.service.revisions
            if any(slot.target_group == group for slot in one.slots)
        )
        self.shifts.append((rule, weights, healthy))

    async def alarming(self, names: list[str]) -> list[str]:
        return [name for name in names if name in self.alarms]

    def event(self, service: Service, message: str) -> None:
        self.events.append(message)

    def tick(self) -> None:
        """Tasks follow the caps at once; new ones are healthy unless the test says otherwise."""
        for revision in self.service.revisions:
            live, wanted = self.service.tasks_of(revision), revision.wanted(self.service.desired_count)
            for task in live[wanted:]:
                task.ask_to_stop("ServiceSchedulerInitiated", "Scaling activity")
            self.service.tasks += [self.task(revision) for _ in range(wanted - len(live))]
        for task in self.service.tasks:
            if not task.live and not self.drains_slowly:
                task.over.set()
        self.each_tick()

    def task(self, revision: Revision) -> Task:
        """A running task of a revision."""
        arn = f"arn:task/c/{len(self.service.tasks)}"
        container = Container("arn:container", {"name": "model", "image": "x"})
        task = Task(arn, self.service.cluster_arn, {}, [container], 0.0, "service:s", revision=revision)
        task.last_status, task.target_health = "RUNNING", "healthy" if self.healthy else "initial"
        return task

    # --- what tests do and look at

    def rollout(self, questions: OpenQuestions | None = None, **config: Any) -> tuple[RecordedDeployment, Rollout]:
        """A new deployment of the service, BLUE_GREEN unless told otherwise."""
        n = len(self.service.revisions) + 1
        definition = {"taskDefinitionArn": f"f:{n}", "containerDefinitions": []}
        revision = Revision(f"arn:rev/{n}", f"ecs-svc/{n}", definition, {"taskDefinition": f"f:{n}"}, float(n))
        self.service.revisions.append(revision)
        self.service.primary = revision
        self.service.spec["taskDefinition"] = f"f:{n}"
        config = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1, **config}
        deployment = RecordedDeployment(f"arn:deployment/{n}", revision, config, self.clock.time())
        self.service.deployments.insert(0, deployment)
        return deployment, Rollout(self.service, deployment, self, questions or OpenQuestions())

    def play(self, rollout: Rollout) -> None:
        """Let a deployment run to its end."""
        asyncio.run(asyncio.wait_for(rollout.run(), 20))

    def released(self) -> Revision:
        """Have a first revision in service; its weights are not counted."""
        deployment, rollout = self.rollout(OpenQuestions(hooks_at_creation=False))
        self.play(rollout)
        assert deployment.status == "SUCCESSFUL"
        self.shifts.clear()
        return deployment.target

    def weights_of(self, rule: str) -> list[dict[str, float]]:
        return [weights for name, weights, _ in self.shifts if name == rule]

    def open_hooks(self, deployment: Deployment) -> list[Hook]:
        return [hook for hook in deployment.hooks if hook.status == "AWAITING_ACTION"]


@pytest.fixture
def world() -> World:
    """A world with one service of two tasks and nothing released yet."""
    return World()


@pytest.fixture(scope="session")
def here(up: dict[str, Any], oci: SimpleNamespace, supervised: SimpleNamespace) -> SimpleNamespace:
    """Where small servers can be deployed in the rehearsal that is up."""
    return make_place(up, oci, supervised)
