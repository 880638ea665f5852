"""Natural batching: a job runs at once when a slot is free; what arrives meanwhile goes together into the next run.

A model of a fraction of a millisecond runs on the event loop, once per turn, for all requests of that turn: a thread's
wake-up would cost more than the run. Any other runs in slots, threads that take their share of one queue; ONNX Runtime
releases Python's lock while it computes. Everything else here happens on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Thread

import msgspec

from model_service.errors import RequestRefused
from model_service.metrics import ModelStats
from model_service.runtime.model import Model, run_options
from model_service.scheduling import batch
from model_service.scheduling.job import Job, Run
from model_service.scheduling.plan import Plan, QueueLimits
from model_service.tensors import Array

INLINE_MAX_BYTES = 16 * 1024  # what takes longer to parse than a small model takes to run goes to a slot
RECENT = 0.2  # the weight of the newest value in a moving average
LONE_BELOW = 0.1  # so few others per request of late that a lone one may have all CPUs

logger = logging.getLogger(__name__)


class Ran(msgspec.Struct, frozen=True, gc=False):
    """One run that took place."""

    rows: int
    compute_s: float


class Scheduler:
    """Runs the jobs of one model."""

    def __init__(self, model: Model, plan: Plan, limits: QueueLimits, stats: ModelStats) -> None:
        self.plan = plan
        self.stats = stats
        self.is_closed = False  # by drain()
        self._model = model
        self._wide: Model | None = None
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._this_turn: list[Job] = []
        self._queue: deque[Job] = deque()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one for each queued job; False ends a slot
        self._pending: set[Job] = set()
        self._pending_bytes = 0
        self._others = 0.0
        self._job_s = plan.run_s
        self._empty = asyncio.Event()
        self._empty.set()
        self._ended = asyncio.Semaphore(0)  # released by each slot that has ended
        self._slots = [Thread(target=self._work, name=f"slot-{number}", daemon=True) for number in range(plan.slots)]
        for slot in self._slots:
            slot.start()

    @property
    def queued_s(self) -> float:
        """Seconds until a job that is submitted now would begin to run, judged by the latest ones."""
        waiting = len(self._pending) - (0 if self.plan.is_inline else min(len(self._pending), self.plan.slots))
        return waiting * self._job_s / (1 if self.plan.is_inline else self.plan.slots)

    @property
    def pending(self) -> int:
        """Jobs that wait or run."""
        return len(self._pending)

    def widen(self, wide: Model) -> None:
        """Run requests that are alone on `wide`: the same model, with all CPUs for one run."""
        self._wide = wide

    def refusal(self, size_bytes: int) -> RequestRefused | None:
        """The 503 for a job of `size_bytes`, counted, if no further one may wait; asked before a body is parsed, and
        of a large body before any of it is kept.

        Not raised here: an exception that was raised holds the frames it went through, and with them what was read.
        """
        pending, limits = len(self._pending), self._limits
        if pending >= limits.max_pending:
            why = f"{pending} requests are waiting already"
        elif pending >= 2 * self.plan.slots and self.queued_s > limits.max_queue_s:
            why = f"{pending} requests are waiting already, about {self.queued_s:.1f} s of work"
        elif pending and self._pending_bytes + size_bytes > limits.max_queue_bytes:
            why = f"{pending} requests with {self._pending_bytes} bytes are waiting already"
        else:
            return None
        self.stats.failed(503)
        return RequestRefused(503, why, retry_after_s=max(1, math.ceil(self.queued_s)))

    def submit(self, job: Job) -> None:
        """Run `job` as soon as can be. Raises RequestRefused: 503 when too much waits, 404 after drain()."""
        if self.is_closed:
            raise RequestRefused(404, "this version of the model is not served any more")
        if refused := self.refusal(job.size_bytes):
            raise refused
        job.deadline = job.submitted + job.timeout_s
        others = len(self._pending)
        job.is_lone = others == 0 and self._others < LONE_BELOW
        self._others += RECENT * (others - self._others)
        job.scheduler = self
        self._pending.add(job)
        self._pending_bytes += job.size_bytes
        self._empty.clear()
        if self.plan.is_inline and job.may_inline and job.size_bytes <= INLINE_MAX_BYTES:
            if not self._this_turn:
                self._loop.call_soon(self._run_this_turn)
            self._this_turn.append(job)
        else:
            if job.timeout_s != math.inf:
                job.expiry = self._loop.call_later(job.timeout_s, self._expire, job)
            self._queue.append(job)
            self._tokens.put(True)

    def give_up(self, job: Job) -> None:
        """Forget `job`, whose caller has gone: it leaves the queue, and its run ends if it is alone in it."""
        if job.gone or job not in self._pending:
            return
        job.gone = True
        self._forget(job)
        self.stats.canceled()
        if not self._take_back(job) and job.run is not None:
            job.run.terminate_if_unwanted()

    async def idle(self) -> None:
        """Return when no job waits or runs."""
        await self._empty.wait()

    async def drain(self) -> None:
        """Take no further job; return when all are done and the slots have ended: a run that nobody waits for any more
        may hold one."""
        self.is_closed = True
        await self._empty.wait()
        for _ in self._slots:
            self._tokens.put(False)
        for _ in self._slots:
            await self._ended.acquire()

    def _expire(self, job: Job) -> None:
        """Refuse `job` if it still waits: its caller need not wait for the slots too, which a long run may hold."""
        if self._take_back(job):
            job.error = _too_late(job)
            self._finish(job)
            job.let_go()

    def _take_back(self, job: Job) -> bool:
        """Whether `job` was still in the queue, from which it is gone now."""
        try:
            self._queue.remove(job)
        except ValueError:  # a slot has it
            return False
        return True

    # On the event loop, for models that are fast.

    def _run_this_turn(self) -> None:
        limit = self.plan.max_batch
        jobs, self._this_turn = self._this_turn[:limit], self._this_turn[limit:]
        started = time.monotonic()
        ran = [one for _, some in self._execute(jobs) for one in some]
        if self._this_turn:  # other connections have their turn first
            self._loop.call_soon(self._run_this_turn)
        self._settle(jobs, ran, time.monotonic() - started)

    # In a slot's thread.

    def _work(self) -> None:
        while self._tokens.get():
            self._run_share()
        self._loop.call_soon_threadsafe(self._ended.release)

    def _run_share(self) -> None:
        """In a frame of its own: a slot that waits keeps no bodies and answers."""
        if jobs := self._take():
            started = time.monotonic()
            for done, ran in self._execute(jobs):
                ended = time.monotonic()
                self._loop.call_soon_threadsafe(self._settle, done, ran, ended - started)
                started = ended

    def _take(self) -> list[Job]:
        """This slot's share of the queue; empty if another slot has taken what was there."""
        if self.plan.window_s and 0 < len(self._queue) < self.plan.max_batch:
            time.sleep(self.plan.window_s)
        share = min(self.plan.max_batch, math.ceil(len(self._queue) / self.plan.slots))
        jobs: list[Job] = []
        try:
            while len(jobs) < max(share, 1):
                jobs.append(self._queue.popleft())
        except IndexError:  # the queue's end
            pass
        return jobs

    def _execute(self, jobs: Sequence[Job]) -> Iterator[tuple[list[Job], list[Ran]]]:
        """Read `jobs`, run and write them group by group; each has its answer or its error when it is yielded."""
        read: list[Job] = []
        refused: list[Job] = []
        for job in jobs:
            (read if self._read(job) else refused).append(job)
        max_batch = self.plan.max_batch
        groups = batch.group(read, max_batch) if max_batch > 1 else [[job] for job in read]
        first = groups[0] if groups else []
        yield [*refused, *first], self._run(first) if first else []
        for members in groups[1:]:  # which have waited for those before
            in_time = [job for job in members if _is_in_time(job, time.monotonic())]
            yield members, self._run(in_time) if in_time else []

    def _read(self, job: Job) -> bool:
        job.started = time.monotonic()
        if job.gone:
            return False
        try:
            job.inputs = job.work.read()
        except Exception as error:
            job.error = error
            return False
        if job.inputs.timeout_s is not None:
            job.deadline = min(job.deadline, job.submitted + job.inputs.timeout_s)
        now = time.monotonic()
        job.read_s = now - job.started
        return _is_in_time(job, now)

    def _run(self, jobs: list[Job]) -> list[Ran]:
        """One run for all `jobs`, or one for each where together they fail: nobody answers for a stranger's rows."""
        model = self._wide if self._wide and all(job.is_lone for job in jobs) else self._model
        run = Run(jobs, run_options())
        if not self.plan.is_inline:  # where callers can go while it runs
            for job in jobs:
                job.run = run
            run.terminate_if_unwanted()
        try:
            stacked = batch.stack(jobs, self.plan.buckets)
            outputs = model.run(stacked, batch.output_names(jobs), run.options)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = error
                return []
            return self._run_alone(jobs)
        rows = batch.count_rows(jobs)
        if len(jobs) == 1 and not self.plan.buckets:
            parts = [outputs.arrays]
        else:
            found = batch.split(outputs.arrays, jobs, len(next(iter(stacked.values()))))
            if found is None and len(jobs) > 1:
                return self._run_alone(jobs)
            if found is None:
                jobs[0].error = ValueError("the model's outputs have not a row for each row of a padded run")
                return []
            parts = found
        for job, part in zip(jobs, parts, strict=True):
            self._write(job, part, outputs.compute_s)
        return [Ran(rows, outputs.compute_s)]

    def _run_alone(self, jobs: list[Job]) -> list[Ran]:
        return [ran for job in jobs for ran in self._run([job])]

    def _write(self, job: Job, outputs: dict[str, Array], compute_s: float) -> None:
        job.compute_s = compute_s
        started = time.monotonic()
        try:
            job.answer = job.work.write(outputs, compute_s)
        except Exception as error:
            job.error = error
        job.write_s = time.monotonic() - started

    # Back on the event loop.

    def _settle(self, jobs: Sequence[Job], ran: Sequence[Ran], taken_s: float) -> None:
        self._job_s += RECENT * (taken_s / len(jobs) - self._job_s)
        for one in ran:
            self.stats.ran(one.rows, one.compute_s)
        for job in jobs:
            if not job.gone:
                self._finish(job)
            job.let_go()

    def _finish(self, job: Job) -> None:
        self._forget(job)
        self.stats.finished(job)
        assert job.on_done is not None  # nobody finishes a job twice
        try:
            job.on_done(job)
        except Exception:  # a fault of the service's own: those behind it are to be answered nevertheless
            logger.exception("an answer could not be handed over")

    def _forget(self, job: Job) -> None:
        if job.expiry is not None:
            job.expiry.cancel()
        self._pending.discard(job)
        self._pending_bytes -= job.size_bytes
        if not self._pending:
            self._empty.set()


def _is_in_time(job: Job, now: float) -> bool:
    """Whether `job` may still be run; else it has its error."""
    if now > job.deadline:
        job.error = _too_late(job)
    return now <= job.deadline


def _too_late(job: Job) -> RequestRefused:
    return RequestRefused(504, f"its deadline passed after {time.monotonic() - job.submitted:.3f} s in the queue")
