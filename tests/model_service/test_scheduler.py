"""The scheduler, with real models on a real event loop: what goes together, what is refused, what is given up."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from model_service.errors import RequestRefused
from model_service.manifest import Batching
from model_service.metrics import ModelStats
from model_service.runtime.model import Model, load_model
from model_service.scheduling.calibrate import calibrate, made_up_rows
from model_service.scheduling.job import Answer, Inputs, Job
from model_service.scheduling.plan import Plan, QueueLimits
from model_service.scheduling.scheduler import Scheduler
from tests.model_service.conftest import graph

NO_LIMITS = QueueLimits(max_pending=10_000, max_queue_s=1e9, max_queue_bytes=2**40)
FLOAT = TensorProto.FLOAT


def loaded(directory: Path, model: bytes) -> Model:
    path = directory / "model.onnx"
    path.write_bytes(model)
    return load_model(path, name="tiny", version="1", platform="onnx_onnxv1", device="cpu")


@pytest.fixture
def doubling(tmp_path: Path) -> Model:
    """y = x + x, row by row."""
    shapes = {"x": (FLOAT, ["N", "M"])}
    return loaded(tmp_path, graph([helper.make_node("Add", ["x", "x"], ["y"])], shapes, {"y": (FLOAT, ["N", "M"])}))


@pytest.fixture
def gathering(tmp_path: Path) -> Model:
    """y = table[x], of three entries: an index beyond them fails inside the graph."""
    table = helper.make_node("Constant", [], ["table"], value_floats=[10.0, 20.0, 30.0])
    nodes = [table, helper.make_node("Gather", ["table", "x"], ["y"])]
    return loaded(tmp_path, graph(nodes, {"x": (TensorProto.INT64, ["N"])}, {"y": (FLOAT, ["N"])}))


@pytest.fixture
def endless(tmp_path: Path) -> Model:
    """Multiplies a matrix again and again, for minutes."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "m"], ["product"]),
            helper.make_node("Clip", ["product"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m", FLOAT, [400, 400]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [400, 400]),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["trips"], value_int=10**6),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body),
    ]
    return loaded(tmp_path, graph(nodes, {"x": (FLOAT, [400, 400])}, {"y": (FLOAT, [400, 400])}))


class Asked:
    """Work whose answer is the outputs as text; reading can be held up."""

    def __init__(self, array: np.ndarray, names: tuple[str, ...] = ("y",), hold: threading.Event | None = None) -> None:
        self.array = array
        self.names = names
        self.hold = hold
        self.was_read = threading.Event()

    def read(self) -> Inputs:
        self.was_read.set()
        if self.hold:
            self.hold.wait(10)
        return Inputs({"x": self.array}, len(self.array), self.names)

    def write(self, outputs: Mapping[str, Any], compute_s: float) -> Answer:
        return Answer(repr(outputs["y"].tolist()).encode())


class Runner:
    """A scheduler, and jobs whose ends can be awaited."""

    def __init__(self, model: Model, plan: Plan, limits: QueueLimits = NO_LIMITS) -> None:
        self.stats = ModelStats("tiny", "1")
        self.scheduler = Scheduler(model, plan, limits, self.stats)

    def submit(
        self, work: Asked, *, size_bytes: int = 10, timeout_s: float | None = None, may_inline: bool = True
    ) -> tuple[Job, asyncio.Future]:
        done = asyncio.get_running_loop().create_future()
        job = Job(
            work,
            done.set_result,
            endpoint="infer",
            size_bytes=size_bytes,
            timeout_s=timeout_s,
            may_inline=may_inline,
        )
        self.scheduler.submit(job)
        return job, done

    async def answers(self, *arrays: np.ndarray) -> list[str]:
        jobs = [self.submit(Asked(array)) for array in arrays]
        await asyncio.gather(*(done for _, done in jobs))
        return [job.answer.body.decode() if job.answer else repr(job.error) for job, _ in jobs]

    @property
    def runs(self) -> int:
        return self.stats.totals["nv_inference_exec_count"]


def rows(*values: float) -> np.ndarray:
    return np.array([[value] for value in values], np.float32)


INLINE = Plan(slots=1, max_batch=64, is_inline=True)
SLOTS = Plan(slots=2, max_batch=8)


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
        late, done = runner.submit(Asked(rows(1)), timeout_s=0.05)
        await asyncio.sleep(0.1)
        hold.set()
        await asyncio.gather(first, done)
        assert isinstance(late.error, RequestRefused)
        assert 504 == late.error.status
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
        late, done = runner.submit(Asked(rows(1)), timeout_s=0.05)
        _, patient = runner.submit(Asked(rows(1)), timeout_s=60)
        await asyncio.wait_for(done, 5)
        assert isinstance(late.error, RequestRefused)
        assert (504, 2) == (late.error.status, runner.scheduler.pending)
        hold.set()
        assert [None, None] == [job.error for job in await asyncio.gather(first, patient)]
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
        late, late_done = runner.submit(Asked(np.eye(400, dtype=np.float32)), timeout_s=1.0)
        _, bad_done = runner.submit(Asked(np.ones((1, 1), np.float32)))
        first.give_up()
        hold.set()
        while second.run is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.1)
        assert not late_done.done()  # it waits behind the second
        second.give_up()
        await asyncio.wait_for(asyncio.gather(late_done, bad_done), 20)
        assert isinstance(late.error, RequestRefused)
        assert 504 == late.error.status
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


@pytest.mark.parametrize("plan", [Plan(slots=1), Plan(slots=1, max_batch=8)], ids=["one by one", "batches"])
def test_an_idle_slot_holds_no_job(doubling: Model, plan: Plan) -> None:
    """What a request held is free when it is answered, though its slot stays."""

    async def story() -> None:
        runner = Runner(doubling, plan)
        work = Asked(rows(1))
        held = weakref.ref(work)
        job, done = runner.submit(work)
        await done
        del work, job, done
        await asyncio.sleep(0.1)
        gc.collect()
        assert held() is None
        await runner.scheduler.drain()

    asyncio.run(story())


def test_finds_out_that_rows_can_go_together(doubling: Model) -> None:
    """A tiny row-by-row model is run on the event loop, in batches."""
    plan = calibrate(doubling, made_up_rows(doubling), Batching(), slots=2, may_inline=True)
    assert plan.is_inline
    assert plan.max_batch > 1


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), "depends on the rows beside it"),
        (helper.make_node("CumSum", ["x", "axis"], ["y"]), "depends on the rows beside it"),
    ],
)
def test_rows_that_look_at_each_other_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, node: Any, why: str
) -> None:
    """A model that mixes its rows is found out by running it, and its requests are never put together."""
    axis = helper.make_node("Constant", [], ["axis"], value_int=0)
    model = loaded(tmp_path, graph([axis, node], {"x": (FLOAT, ["N", 2])}, {"y": (FLOAT, ["N", 2])}))
    assert 1 == calibrate(model, made_up_rows(model), Batching(), slots=1, may_inline=True).max_batch
    assert why in caplog.text


def test_a_fixed_first_axis_is_never_stacked(tmp_path: Path) -> None:
    """A model that wants exactly one sample gets one sample."""
    model = loaded(
        tmp_path, graph([helper.make_node("Neg", ["x"], ["y"])], {"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1, 2])})
    )
    assert 1 == calibrate(model, made_up_rows(model), Batching(max_batch=8), slots=1, may_inline=True).max_batch


def test_the_manifest_decides(doubling: Model) -> None:
    """What the manifest says of batching is kept as it is."""
    batching = Batching(max_batch=5, window_us=1000, buckets=[2, 5])
    plan = calibrate(doubling, made_up_rows(doubling), batching, slots=2, may_inline=False)
    assert (5, 0.001, (2, 5), False) == (plan.max_batch, plan.window_s, plan.buckets, plan.is_inline)
    assert 1 == calibrate(doubling, made_up_rows(doubling), Batching(max_batch=1), slots=2, may_inline=True).max_batch


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
