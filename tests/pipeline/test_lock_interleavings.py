"""Two writers and one lock, call by call in every order: one goes on, and one that was overtaken is fenced off."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.aws.lock import TTL_S, LockPlace, acquire
from pipeline.errors import Locked
from tests.pipeline.memory_s3 import MemoryS3

PLACE = LockPlace("bucket", "test", "tiny")
STEPS = 3
ROUNDS = 1000


@dataclass
class Shared:
    """The lock's S3 with a clock of its own, and the world that writers change."""

    time: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    changes: list[tuple[int, int]] = field(default_factory=list)  # fence of who changed, newest fence given out then
    s3: MemoryS3 = field(init=False)

    def __post_init__(self) -> None:
        self.s3 = MemoryS3(lambda: self.time)


@dataclass
class Turn:
    """A writer in a thread, which makes one call whenever it is its turn."""

    shared: Shared
    work: Callable[["Turn"], None]
    is_over: bool = False
    error: BaseException | None = None
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()
        self._done.acquire()

    def step(self) -> None:
        """Let the writer make its next call and run on to the one after it."""
        if not self.is_over:
            self._go.release()
            self._done.acquire()

    def call(self, _service: str, operation: str, /, **request: Any) -> dict[str, Any]:
        self.pause()
        return dict(getattr(self.shared.s3, operation)(**request))

    def pause(self) -> None:
        self._done.release()
        self._go.acquire()

    def _run(self) -> None:
        try:
            self.work(self)
        except BaseException as error:  # told to the test by `error`
            self.error = error
        self.is_over = True
        self._done.release()


def writer(fences: list[int], name: str, *, preempt: bool) -> Callable[[Turn], None]:
    """Takes the lock, changes the world three times, each time after a look at the fence, and lets go."""

    def work(turn: Turn) -> None:
        lease = acquire(turn, PLACE, holder=name, command="onnxship ship", preempt=preempt)  # type: ignore[arg-type]
        fences.append(lease.fence)
        for _ in range(STEPS):
            lease.confirm()
            turn.pause()  # here a process may be stopped for as long as it takes
            turn.shared.changes.append((lease.fence, max(fences)))
        lease.release()

    return work


def raced(seed: int, *, preempt: bool, ticks: bool) -> tuple[Shared, list[int], list[Turn]]:
    """One order of calls, drawn by `seed`; with `ticks` S3's clock jumps past the lease at any moment."""
    chance, shared = random.Random(seed), Shared()
    fences: list[int] = []
    turns = [Turn(shared, writer(fences, "ann", preempt=False)), Turn(shared, writer(fences, "ben", preempt=preempt))]
    while not all(turn.is_over for turn in turns):
        chance.choice(turns).step()
        if ticks and chance.random() < 0.1:
            shared.time += timedelta(seconds=TTL_S + 1)
    return shared, fences, turns


def check(shared: Shared, fences: list[int], turns: list[Turn]) -> None:
    """No fence twice; after a newer one was given out the older makes the one change under way, and no more."""
    assert sorted(set(fences)) == sorted(fences)
    for fence in fences:
        late = [newest for changer, newest in shared.changes if changer == fence and newest > fence]
        assert len(late) <= 1
    assert all(turn.error is None or isinstance(turn.error, Locked) for turn in turns), [turn.error for turn in turns]


def test_of_two_at_once_one_goes_on_and_the_other_is_told_who() -> None:
    """Without an expired lease changes of two writers never mix."""
    refused = 0
    for seed in range(ROUNDS):
        shared, fences, turns = raced(seed, preempt=False, ticks=False)
        check(shared, fences, turns)
        assert shared.changes == sorted(shared.changes)
        errors = [turn.error for turn in turns if turn.error]
        assert len(errors) + len(fences) == 2
        refused += len(errors)
        assert all("(`onnxship ship`) since 2026-11-21" in str(error) for error in errors), errors
    assert refused > ROUNDS / 4


@pytest.mark.parametrize("preempt", [False, True])
def test_a_paused_writer_that_resumes_is_fenced_off(preempt: bool) -> None:
    """Its lease ended, or was taken, at any moment: what it had confirmed is the last thing that it does."""
    overtaken = 0
    for seed in range(ROUNDS):
        shared, fences, turns = raced(seed, preempt=preempt, ticks=True)
        check(shared, fences, turns)
        overtaken += any("was taken by" in str(turn.error) for turn in turns)
    assert overtaken > ROUNDS / 50
