"""Breaks off: stops the run that is under way, takes back what it deployed, and leaves the lock free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.aws.cloudformation import Stack, describe_stack, outputs
from pipeline.aws.ecs import Deployment, describe_service
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import Lease, LockPlace, acquire, read_lock
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.access import clear_gate
from pipeline.deployment.follower import ignore
from pipeline.deployment.place import Place, find_place, find_place_at_creation
from pipeline.deployment.settling import Interference, Settling, has_served
from pipeline.deployment.stopping import running_deployment, stop_running
from pipeline.errors import UsageError
from pipeline.results import Aborted, Outcome
from pipeline.stacks import Stacks
from pipeline.waiting import Clock

COMMAND = "onnxship abort"
NOTHING = "no deployment ran"


def abort(
    config: Config, aws: Aws, clock: Clock, *, service: str, who: str, run_url: str = "",
    on_progress: Callable[[str], None] = ignore,
) -> Aborted:  # fmt: skip
    """The old release alone in production, the lock free, and a record for the run that was broken off.

    A service that is just being created is removed: nothing served before. That there is nothing to do is no error.
    """
    return _Abort(config, aws, clock, service, who, run_url, on_progress).run()


def plan_abort(config: Config, aws: Aws, *, service: str) -> Aborted:
    """What `abort` would do. Reads only."""
    place = _existing(config, aws, service)
    running = running_deployment(aws, place) if place else None
    bucket = outputs(aws, config.stack_name("registry")).get("ArtifactBucketName")
    lock = read_lock(aws, LockPlace(bucket, config.environment_name, service)) if bucket else None
    creation = None if place else _creation(config, aws, service)
    status = f"stack {creation.name} would be deleted" if creation else "would be stopped" if running else NOTHING
    return Aborted(running.arn if running else "", status, lock.description if lock and lock.held else "")


@dataclass(frozen=True)
class _Abort:
    config: Config
    aws: Aws
    clock: Clock
    service: str
    who: str
    run_url: str
    on_progress: Callable[[str], None]

    def run(self) -> Aborted:
        stopped = self._stop()
        bucket = outputs(self.aws, self.config.stack_name("registry")).get("ArtifactBucketName")
        if not bucket:
            return Aborted("", f"{NOTHING}: nothing was ever shipped to `{self.config.environment_name}`", "")
        ledger = Ledger(self.aws, bucket, self.config.environment_name, self.service)
        lease = acquire(
            self.aws, LockPlace(bucket, ledger.environment, self.service),
            holder=self.who, run_url=self.run_url, command=COMMAND, preempt=True,
        )  # fmt: skip
        with lease.kept_alive():
            stopped = self._stop() or stopped  # what the other run began just before it lost the lock
            removed = self._remove_creation(ledger)
            self._settle(ledger, lease, stopped)
        status = stopped.status if stopped else removed or NOTHING
        held_by = lease.preempted.description if lease.preempted else ""
        return Aborted(stopped.arn if stopped else "", status, held_by)

    @property
    def _cause(self) -> str:
        return f"{self.who} stopped it with `{COMMAND}`"

    def _stop(self) -> Deployment | None:
        place = _existing(self.config, self.aws, self.service)
        if place is None:
            return None
        return stop_running(
            self.aws, self.clock, place, interval_s=self.config.poll_interval_s, on_progress=self.on_progress
        )

    def _settle(self, ledger: Ledger, lease: Lease, stopped: Deployment | None) -> None:
        by = Interference(self._cause, stopped, lease.preempted.fence if lease.preempted else 0)
        place = _existing(self.config, self.aws, self.service)
        for line in Settling(self.aws, ledger, place, self._now, by=by).settle():
            self.on_progress(line)

    def _remove_creation(self, ledger: Ledger) -> str:
        """Delete the stack of a service that is being created; its release gets its record first, for its own run."""
        stack = _creation(self.config, self.aws, self.service)
        if stack is None:
            return ""
        place = find_place_at_creation(self.config, self.aws, self.service)
        if place is not None:
            self._close_first(ledger, place)
        self.on_progress(f"{stack.name}: deleting it; nothing was serving before")
        Stacks(self.aws, self.clock, self.config.poll_interval_s, self.on_progress).delete(stack.id)
        if place is not None:
            clear_gate(self.aws, self.clock, place)
        return f"the service that was being created was removed (stack {stack.name})"

    def _close_first(self, ledger: Ledger, place: Place) -> None:
        service = describe_service(self.aws, place.cluster, place.service)
        running = running_deployment(self.aws, place)
        if service is None or running is None:
            return
        outcome = Outcome.ROLLED_BACK if has_served(running) else Outcome.REFUSED
        for draft in ledger.open_drafts():
            if draft.content.get("task_definition_arn") == service.task_definition:
                ledger.close(draft, outcome, self._cause, finished_at=self._now, deployment_arn=running.arn)
                self.on_progress(f"release {draft.release_id} was closed as {outcome}: {self._cause}")

    @property
    def _now(self) -> str:
        return self.clock.now().isoformat()


def _existing(config: Config, aws: Aws, service: str) -> Place | None:
    try:
        return find_place(config, aws, service)
    except UsageError:  # its stack does not exist, or not yet
        return None


def _creation(config: Config, aws: Aws, service: str) -> Stack | None:
    stack = describe_stack(aws, config.stack_name("service", service))
    return stack if stack and stack.status == "CREATE_IN_PROGRESS" else None
