"""What goes together into one run, and what does not."""

import asyncio
import threading
import time

import numpy as np
import pytest

from model_service.runtime.model import Model
from model_service.scheduling.plan import Plan
from tests.model_service.scheduling.runner import INLINE, SLOTS, Asked, Runner, rows


@pytest.mark.parametrize("plan", [INLINE, SLOTS, Plan(slots=3)], ids=["inline", "slots", "no batches"])
def test_everybody_gets_their_own_rows(doubling: Model, plan: Plan) -> None:
    """However jobs are put together, each gets the answer to what it sent."""

    async def story() -> None:
        runner = Runner(doubling, plan)
        answers = await runner.answers(*(rows(*range(size, 2 * size)) for size in range(1, 20)))
        assert [repr([[2.0 * n] for n in range(size, 2 * size)]) for size in range(1, 20)] == answers
        assert 0 == runner.scheduler.pending

    asyncio.run(story())


def test_what_arrives_together_runs_together(doubling: Model) -> None:
    """All requests of one turn of the event loop are one run, up to max_batch rows."""

    async def story() -> None:
        runner = Runner(doubling, INLINE)
        await runner.answers(*[rows(1)] * 64)
        assert 1 == runner.runs
        await runner.answers(*[rows(1)] * 65)
        assert 3 == runner.runs
        assert 129 == runner.stats.totals["nv_inference_count"]

    asyncio.run(story())


def test_only_equal_row_shapes_go_together(doubling: Model) -> None:
    """Rows of another length are another run, and nobody waits for them."""

    async def story() -> None:
        runner = Runner(doubling, INLINE)
        long = np.array([[1, 2, 3]], np.float32)
        assert ["[[2.0]]", "[[2.0, 4.0, 6.0]]", "[[4.0]]"] == await runner.answers(rows(1), long, rows(2))
        assert 2 == runner.runs

    asyncio.run(story())


def test_runs_are_padded_to_buckets(doubling: Model) -> None:
    """With buckets a run has one of their row counts, and the rows that fill up go to nobody."""

    async def story() -> None:
        plan = Plan(slots=1, max_batch=8, buckets=(4, 8), is_inline=True)
        runner = Runner(doubling, plan)
        assert ["[[2.0]]", "[[4.0], [6.0]]"] == await runner.answers(rows(1), rows(2, 3))
        assert ["[[14.0]]"] == await runner.answers(rows(7))

    asyncio.run(story())


@pytest.mark.parametrize("plan", [INLINE, SLOTS], ids=["inline", "slots"])
def test_a_bad_job_harms_nobody(gathering: Model, plan: Plan) -> None:
    """Rows that make a run fail are refused alone; those that were put together with them get their answers."""

    async def story() -> None:
        runner = Runner(gathering, plan)
        answers = await runner.answers(np.array([0]), np.array([9]), np.array([2, 1]))
        assert ["[10.0]", "[30.0, 20.0]"] == [answers[0], answers[2]]
        assert "INVALID_ARGUMENT" in answers[1]
        assert 1 == runner.stats.failures["OTHER"]

    asyncio.run(story())


def test_a_window_waits_for_jobs_alone(doubling: Model) -> None:
    """A slot waits its window where a job waits with it, and never over an empty queue."""

    async def story() -> None:
        before = threading.active_count()
        runner = Runner(doubling, Plan(slots=1, max_batch=8, window_s=5.0))
        await runner.answers(*[rows(1)] * 8)
        await runner.scheduler.drain()
        deadline = time.monotonic() + 10
        while threading.active_count() > before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    asyncio.run(story())


def test_what_takes_long_to_read_leaves_the_event_loop_alone(doubling: Model) -> None:
    """A job that may not run inline is read in a slot, and others are answered meanwhile."""
    hold = threading.Event()

    async def both() -> tuple[bytes, bool]:
        runner = Runner(doubling, INLINE)
        slow, slow_done = runner.submit(Asked(np.ones((1, 1), np.float32), hold=hold), may_inline=False)
        quick, quick_done = runner.submit(Asked(np.zeros((1, 1), np.float32)))
        await asyncio.wait_for(quick_done, 5)
        was_waiting = not slow_done.done()
        hold.set()
        await asyncio.wait_for(slow_done, 5)
        await runner.scheduler.drain()
        assert slow.answer is not None
        assert quick.answer is not None
        return slow.answer.body, was_waiting

    assert (b"[[2.0]]", True) == asyncio.run(both())
