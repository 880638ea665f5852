"""Keeps what runs equal to what is wanted: one loop, the single writer of all services and tasks.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_services.html
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from typing import Any

from rehearsal.context import Context
from rehearsal.ecs.clock import Clock
from rehearsal.ecs.deployments import Rollout
from rehearsal.ecs.engines.contract import Engine
from rehearsal.ecs.guards import count_failure, count_healthy
from rehearsal.ecs.network import Network
from rehearsal.ecs.questions import OpenQuestions
from rehearsal.ecs.state import Container, Deployment, Json, Revision, Service, Task, is_healthy
from rehearsal.ecs.tasks import TaskRunner
from rehearsal.ecs.traffic import Traffic
from rehearsal.ecs.world import NetworkProblem

log = logging.getLogger(__name__)

TICK_S = 0.2
LOOK_WHEN_ALL_ANSWER_S = 1.0
EVENTS_KEPT = 100
STOPPED_KEPT_S = 3600.0
CLOSING_S = 5.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 8.0


class Scheduler:
    """All services and tasks of the rehearsal, and the loop that tends them. Also the deployments' world."""

    def __init__(self, context: Context, questions: OpenQuestions, engine: Engine) -> None:
        self.context = context
        self.questions = questions
        self.clock = Clock(context)
        self.services: list[Service] = []
        self.tasks: list[Task] = []
        self.traffic = Traffic(context, questions)
        self.network = Network(context)
        self.runner = TaskRunner(context, engine, self._task_runs, self._task_leaves)
        self._background: set[asyncio.Task[Any]] = set()
        self._rollouts: dict[str, asyncio.Task[Any]] = {}

    # --- the deployments' world

    async def place(self, service: Service, target: Revision, source: Revision | None) -> None:
        """See World."""
        strategy = str(service.config.get("strategy") or "ROLLING")
        target.slots = await self.traffic.slots(target.spec, strategy, source)

    async def shift(self, rule: str, weights: dict[str, float]) -> None:
        """See World."""
        await self.traffic.shift(rule, weights)

    async def alarming(self, names: list[str]) -> list[str]:
        """See World."""
        answer = await self.context.call("cloudwatch", "describe_alarms", AlarmNames=names)
        alarms = [*answer["MetricAlarms"], *answer["CompositeAlarms"]]
        return [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]

    def event(self, service: Service, message: str) -> None:
        """Newest first, a hundred kept (API_Service, events)."""
        text = f"(service {service.name}) {message}"
        service.events.insert(0, {"id": str(uuid.uuid4()), "createdAt": time.time(), "message": text})
        del service.events[EVENTS_KEPT:]

    # --- the loop

    async def run(self) -> None:
        """Tend every service, again and again."""
        while True:
            for service in list(self.services):
                try:
                    await self._tend(service)
                except Exception:
                    log.exception("service %s could not be tended", service.name)
            self._forget_old_tasks()
            await asyncio.sleep(TICK_S)

    async def close(self) -> None:
        """Stop every task and deployment; what still drains is not waited for."""
        for job in self._rollouts.values():
            job.cancel()
        for task in self.tasks:
            task.ask_to_stop("ServiceSchedulerInitiated", "The rehearsal ended.")
        await self.runner.close()
        if self._background:
            _, late = await asyncio.wait(set(self._background), timeout=CLOSING_S)
            for job in late:
                job.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the loop; what it raises is logged."""
        job = asyncio.create_task(work)
        self._background.add(job)
        job.add_done_callback(self._done)
        return job

    def _done(self, job: asyncio.Task[Any]) -> None:
        self._background.discard(job)
        if not job.cancelled() and job.exception():
            log.error("background work failed", exc_info=job.exception())

    async def _tend(self, service: Service) -> None:
        if service.status == "INACTIVE":
            return
        all_answer = all(is_healthy(task) for task in service.tasks if task.live)
        if not all_answer or time.monotonic() - service.looked_at >= LOOK_WHEN_ALL_ANSWER_S:
            await self._look_at_health(service)
        for revision in service.active():
            await self._balance(service, revision)
        if service.status == "DRAINING" and all(task.over.is_set() for task in service.tasks):
            service.status = "INACTIVE"
        self._tell_steady(service)

    async def _balance(self, service: Service, revision: Revision) -> None:
        live, wanted = service.tasks_of(revision), revision.wanted(service.desired_count)
        if len(live) > wanted:
            excess = sorted(live, key=lambda one: (is_healthy(one), -one.created_at))[: len(live) - wanted]
            for task in excess:
                task.ask_to_stop(
                    "ServiceSchedulerInitiated", f"Scaling activity initiated by (deployment {revision.deployment_id})"
                )
            self.event(service, f"has stopped {len(excess)} running tasks: {_named(excess)}.")
        elif len(live) < wanted and time.time() >= revision.not_before:
            new = [await self._service_task(service, revision) for _ in range(wanted - len(live))]
            self.event(service, f"has started {len(new)} tasks: {_named(new)}.")

    async def _service_task(self, service: Service, revision: Revision) -> Task:
        task = await self.new_task(
            service.cluster_arn, revision.task_definition, revision.spec, f"service:{service.name}", revision
        )
        task.started_by = revision.deployment_id
        task.tags = list(service.spec.get("tags") or []) if service.spec.get("propagateTags") == "SERVICE" else []
        service.tasks.append(task)
        self.spawn(self._follow(service, revision, task))
        return task

    async def new_task(
        self, cluster_arn: str, definition: Json, spec: Json, group: str, revision: Revision | None = None
    ) -> Task:
        """A task that is not started yet."""
        interface = await self.network.interface(spec.get("networkConfiguration"))
        task_id = uuid.uuid4().hex
        arn = f"{cluster_arn.replace(':cluster/', ':task/')}/{task_id}"
        containers = [
            Container(f"{arn.replace(':task/', ':container/')}/{uuid.uuid4()}", one)
            for one in definition["containerDefinitions"]
        ]
        task = Task(arn, cluster_arn, definition, containers, time.time(), group, revision=revision)
        task.launch_type = spec.get("launchType") or "FARGATE"
        if interface:
            task.ip, task.subnet, task.zone = interface.ip, interface.subnet, interface.zone
        self.tasks.append(task)
        return task

    async def _follow(self, service: Service, revision: Revision, task: Task) -> None:
        """A service's task from start to end; an end that nobody asked for is a failure."""
        await self.runner.live(task)
        scaled_down = (task.stopped_reason or "").startswith("Scaling activity")
        if scaled_down or task.stop_code == "UserInitiated" or service.status != "ACTIVE":
            return
        revision.failed_in_a_row += 1
        if deployment := service.deployment_to(revision):
            count_failure(deployment)
        # "service throttling": https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-throttle-logic.html
        backoff = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (revision.failed_in_a_row - 1))
        revision.not_before = time.time() + backoff
        if revision.failed_in_a_row == 3:
            self.event(service, "is unable to consistently start tasks successfully.")

    # --- load balancer

    async def _task_runs(self, task: Task) -> None:
        for slot in task.revision.slots if task.revision and task.ip else ():
            await self.traffic.register(slot, str(task.ip))
            self._tell(task, f"registered 1 targets in (target-group {slot.target_group})")

    async def _task_leaves(self, task: Task, drain: bool) -> None:
        slots = task.revision.slots if task.revision and task.ip else ()
        for slot in slots:
            self._tell(task, f"deregistered 1 targets in (target-group {slot.target_group})")
        if slots and drain:
            self._tell(task, "has begun draining connections on 1 tasks.")
        await asyncio.gather(*(self.traffic.deregister(slot, str(task.ip), drain) for slot in slots))

    def _tell(self, task: Task, message: str) -> None:
        service = next((one for one in self.services if task in one.tasks), None)
        if service:
            self.event(service, message)

    async def _look_at_health(self, service: Service) -> None:
        service.looked_at = time.monotonic()
        groups = {slot.target_group for revision in service.active() for slot in revision.slots}
        health = {group: await self.traffic.health(group) for group in groups}
        for task in [one for one in service.tasks if one.live and one.last_status == "RUNNING"]:
            self._judge(service, task, health)

    def _judge(self, service: Service, task: Task, health: dict[str, dict[tuple[str, int], tuple[str, str]]]) -> None:
        """Record what the balancer says of a task, and stop it when it fails there."""
        revision = task.revision
        assert revision is not None
        states = {
            slot.target_group: health[slot.target_group].get((str(task.ip), slot.port), ("initial", ""))
            for slot in revision.slots
        }
        failing = next((group for group, (state, _) in states.items() if state == "unhealthy"), None)
        all_healthy = all(state == "healthy" for state, _ in states.values())
        task.target_health = "healthy" if all_healthy else "unhealthy" if failing else "initial"
        if is_healthy(task) and not task.was_healthy:
            task.was_healthy = True
            self._now_healthy(service, revision)
        if failing:
            self._stop_failing(service, task, failing, states[failing][1])

    def _stop_failing(self, service: Service, task: Task, group: str, description: str) -> None:
        """Past the grace period, in real seconds, a task that fails its load balancer's health check is replaced.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-healthcheck.html
        """
        if time.time() - task.times["startedAt"] <= float(service.spec.get("healthCheckGracePeriodSeconds") or 0):
            return
        place = f"in (target-group {group})"
        self.event(service, f"(task {task.id}) is unhealthy {place} due to (reason {description})")
        task.ask_to_stop("ServiceSchedulerInitiated", f"Task failed ELB health checks {place} ({description})")

    def _now_healthy(self, service: Service, revision: Revision) -> None:
        revision.failed_in_a_row = 0
        if deployment := service.deployment_to(revision):
            count_healthy(deployment)

    # --- deployments

    def deploy(self, service: Service, deployment: Deployment) -> None:
        """Start a deployment; one that runs is superseded, one that waits never starts."""
        before = self._rollouts.get(service.arn)
        service.deployments.insert(0, deployment)
        self._rollouts[service.arn] = self.spawn(self._conduct(service, deployment, before))

    async def _conduct(self, service: Service, deployment: Deployment, before: asyncio.Task[Any] | None) -> None:
        if before:
            await asyncio.wait({before})
        try:
            await Rollout(service, deployment, self, self.questions).run()
        except NetworkProblem as problem:
            self._fail(deployment, f"invalid networking configuration{problem}")
        except Exception as error:
            self._fail(deployment, f"InternalError: {error!r}")
            raise

    def _fail(self, deployment: Deployment, reason: str) -> None:
        deployment.status, deployment.status_reason = "ROLLBACK_FAILED", reason
        deployment.finished_at = deployment.updated_at = time.time()

    def abandon(self, service: Service) -> None:
        """The service is deleted: its deployments end, its tasks stop."""
        job = self._rollouts.pop(service.arn, None)
        if job:
            job.cancel()
        for deployment in (one for one in service.deployments if one.ongoing):
            deployment.status, deployment.status_reason = "STOPPED", "The service was deleted."
            deployment.finished_at = deployment.stopped_at = time.time()
        service.desired_count = 0
        service.status = "DRAINING"

    # --- housekeeping

    def _tell_steady(self, service: Service) -> None:
        revision = service.primary
        steady = (
            revision is not None
            and service.ongoing is None
            and len(service.healthy(revision)) == service.desired_count == len(service.tasks_of(revision))
        )
        if steady and not service.steady and service.status == "ACTIVE":
            self.event(service, "has reached a steady state.")
        service.steady = steady

    def _forget_old_tasks(self) -> None:
        """Stopped tasks stay visible for an hour (API_DescribeTasks)."""
        long_ago = time.time() - STOPPED_KEPT_S
        old = {id(task) for task in self.tasks if task.times.get("stoppedAt", time.time()) < long_ago}
        if old:
            self.tasks = [task for task in self.tasks if id(task) not in old]
            for service in self.services:
                service.tasks = [task for task in service.tasks if id(task) not in old]


def _named(tasks: list[Task]) -> str:
    return " ".join(f"(task {task.id})" for task in tasks)
