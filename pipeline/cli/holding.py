"""A service's lock, held by one command, and a ledger that agrees with ECS while it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.aws.cloudformation import outputs
from pipeline.aws.ledger import Ledger
from pipeline.aws.lock import Lease, acquire
from pipeline.cli.caller import run_url, who
from pipeline.cli.options import Run
from pipeline.deployment.live import live_revision
from pipeline.deployment.place import find_place, ledger_of, lock_place
from pipeline.deployment.settling import Settling


@contextmanager
def held(run: Run, command: str, resuming: str) -> Iterator[Lease]:
    """The lock, and a ledger that agrees with ECS but for the release `resuming`, which this run goes on with."""
    ledger = ledger_of(run.config, run.aws, run.service)
    lease = acquire(
        run.aws, lock_place(run.config, run.aws, run.service), holder=who(), run_url=run_url(), command=command
    )
    with lease.kept_alive():
        if is_deployed(run):
            agree_with_ecs(run, ledger, resuming)
        yield lease


def agree_with_ecs(run: Run, ledger: Ledger, resuming: str) -> None:
    """Write down what has ended in ECS and in no record; the lock is held."""
    place = find_place(run.config, run.aws, run.service)
    now = run.clock.now().isoformat()
    live = live_revision(run.aws, place).task_definition_arn
    done = ledger.reconcile(live, now=now, resuming=resuming)
    for line in dict.fromkeys((done, *Settling(run.aws, ledger, place, now, resuming).settle())):
        if line:
            run.progress(line)


def is_deployed(run: Run) -> bool:
    """Whether the service's stack is there and complete."""
    return "ServiceName" in outputs(run.aws, run.config.stack_name("service", run.service))
