"""How jobs end that are not answered in their turn: refused, late, given up, drained."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from model_service.errors import RequestRefused
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Job
from model_service.scheduling.plan import Plan, QueueLimits
from tests.model_service.scheduling.runner import INLINE, Asked, Runner, rows


def test_a_full_queue_refuses_at_once(doubling: Model) -> None:
    """Too many jobs, too many bytes or too many seconds of work: 503, with the time after which to ask again."""

    async def story() -> None:
        hold = threading.Event()
        for limits, words in (
            (QueueLimits(2, 1e9, 2**40), "2 requests are waiting already"),
            (QueueLimits(100, 1e9, 25), "2 requests with 20 bytes are waiting already"),
            (QueueLimits(100, 0.5, 2**40), "2 requests are waiting already, about 3.0 s of work"),
        ):
            runner = Runner(doubling, Plan(slots=1, run_s=3.0), limits)
            waiting = [runner.submit(Asked(rows(1), hold=hold))[1] for _ in range(2)]
            with pytest.raises(RequestRefused, match=words) as refused:
                runner.submit(Asked(rows(1)))
            assert 503 == refused.value.status
            assert refused.value.retry_after_s
            assert 1 == runner.stats.failures["REJECTED"]
            hold.set()
            await asyncio.gather(*waiting)
            hold.clear()
            await runner.answers(rows(1))

    asyncio.run(story())


def test_a_late_job_is_not_run(doubling: Model) -> None:
    """What has waited longer than its deadline is refused with 504 before it costs a run."""

    async def story() -> None:
        runner = Runner(doubling, Plan(slots=1))
        hold = threading.Event()
        _, first = runner.submit(Asked(rows(1), hold=hold))
        _, done = runner.submit(Asked(rows(1)), timeout_s=0.05)
        await asyncio.sleep(0.1)
        hold.set()
        _, late = await asyncio.gather(first, done)
        assert isinstance(late, RequestRefused)
        assert 504 == late.status
        assert 1 == runner.runs

    asyncio.run(story())


def test_a_late_job_does_not_wait_for_a_slot(doubling: Model) -> None:
    """Its caller has the 504 at the deadline, though a long run holds every slot; the rest of the queue is run."""

    async def story() -> None:
        runner = Runner(doubling, Plan(slots=1))
        hold = threading.Event()
        running = Asked(rows(1), hold=hold)
        _, first = runner.submit(running)
        await asyncio.to_thread(running.was_read.wait)
        _, done = runner.submit(Asked(rows(1)), timeout_s=0.05)
        _, patient = runner.submit(Asked(rows(1)), timeout_s=60)
        late = await asyncio.wait_for(done, 5)
        assert isinstance(late, RequestRefused)
        assert (504, 2) == (late.status, runner.scheduler.pending)
        hold.set()
        assert [Answer, Answer] == [type(outcome) for outcome in await asyncio.gather(first, patient)]
        assert 2 == runner.runs

    asyncio.run(story())


def test_jobs_too_large_for_one_run_are_answered_run_by_run(endless: Model) -> None:
    """Of jobs that one slot takes together and runs one after the other, each is answered when its own run ends, and
    not run at all when its deadline has passed meanwhile."""

    async def story() -> None:
        runner = Runner(endless, Plan(slots=1, max_batch=8))
        hold = threading.Event()
        running = Asked(np.eye(400, dtype=np.float32), hold=hold)
        first, _ = runner.submit(running)
        await asyncio.to_thread(running.was_read.wait)
        second, _ = runner.submit(Asked(np.eye(400, dtype=np.float32)))
        _, late_done = runner.submit(Asked(np.eye(400, dtype=np.float32)), timeout_s=1.0)
        _, bad_done = runner.submit(Asked(np.ones((1, 1), np.float32)))
        first.give_up()
        hold.set()
        while second.run is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.1)
        assert not late_done.done()  # it waits behind the second
        second.give_up()
        late, _ = await asyncio.wait_for(asyncio.gather(late_done, bad_done), 20)
        assert isinstance(late, RequestRefused)
        assert 504 == late.status
        await runner.scheduler.drain()

    asyncio.run(story())


def test_a_caller_that_goes_takes_its_job_along(doubling: Model) -> None:
    """A queued job that is given up is never read, makes room at once, and is counted as canceled."""

    async def story() -> None:
        runner = Runner(doubling, Plan(slots=1), QueueLimits(2, 1e9, 2**40))
        hold = threading.Event()
        running = Asked(rows(1), hold=hold)
        _, first = runner.submit(running)
        await asyncio.to_thread(running.was_read.wait)
        work = Asked(rows(2))
        job, done = runner.submit(work)
        job.give_up()
        _, third = runner.submit(Asked(rows(3)))
        hold.set()
        await asyncio.gather(first, third)
        assert (False, False) == (work.was_read.is_set(), done.done())
        assert 1 == runner.stats.failures["CANCELED"]
        assert 0 == runner.scheduler.pending

    asyncio.run(story())


def test_a_run_that_nobody_wants_ends(endless: Model) -> None:
    """When the only caller of a run goes, the run ends at its next node and the slot is free again."""

    async def story() -> None:
        runner = Runner(endless, Plan(slots=1))
        job, _ = runner.submit(Asked(np.eye(400, dtype=np.float32)))
        while job.run is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        job.give_up()
        second = Asked(np.eye(400, dtype=np.float32))
        other, _ = runner.submit(second)
        assert await asyncio.to_thread(second.was_read.wait, 20)  # the slot was freed
        other.give_up()
        await runner.scheduler.drain()

    asyncio.run(story())


def test_drains_to_the_last_job(doubling: Model) -> None:
    """drain() returns when every job has its answer, and the slots' threads end."""

    async def story() -> None:
        before = threading.active_count()
        runner = Runner(doubling, Plan(slots=2))
        hold = threading.Event()
        jobs = [runner.submit(Asked(rows(1), hold=hold)) for _ in range(5)]
        draining = asyncio.create_task(runner.scheduler.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        hold.set()
        await draining
        assert all(job.answer for job, _ in jobs)
        deadline = time.monotonic() + 10
        while threading.active_count() > before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    asyncio.run(story())


def test_who_cannot_be_answered_keeps_nobody_waiting(doubling: Model, caplog: pytest.LogCaptureFixture) -> None:
    """When an answer cannot be handed over the log says so, and the others of its run get theirs."""

    def fails(job: Job) -> None:
        raise RuntimeError("nobody there")

    async def story() -> None:
        runner = Runner(doubling, INLINE)
        runner.scheduler.submit(Job(Asked(rows(1)), fails, endpoint="infer", size_bytes=10))
        _, done = runner.submit(Asked(rows(2)))
        await asyncio.wait_for(done, 10)
        await asyncio.wait_for(runner.scheduler.drain(), 10)

    asyncio.run(story())
    assert "nobody there" in caplog.text


@pytest.mark.parametrize("plan", [INLINE, Plan(slots=1), Plan(slots=1, max_batch=8)], ids=["inline", "slot", "batches"])
@pytest.mark.parametrize("array", [rows(1), np.array(["no number"]), None], ids=["answered", "failed", "refused"])
def test_what_a_request_held_is_free_with_its_answer(doubling: Model, plan: Plan, array: np.ndarray) -> None:
    """At once, though its slot stays, and without the garbage collector, which may not come for a long time."""

    async def story() -> None:
        runner = Runner(doubling, plan)
        work = Asked(array)
        held = weakref.ref(work)
        done = runner.submit(work)[1]
        outcome = await done
        assert isinstance(outcome, Answer) == (array is not None and array.dtype == np.float32)
        del work, done, outcome
        async with asyncio.timeout(5):  # the slot may still be on its way back
            while held() is not None:
                await asyncio.sleep(0.01)
        await runner.scheduler.drain()

    gc.disable()
    try:
        asyncio.run(story())
    finally:
        gc.enable()
