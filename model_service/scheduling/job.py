"""A job: one request on its way through the scheduler.

What is made for each request is a msgspec.Struct: several times faster to make than a dataclass or a named tuple.
"""

from __future__ import annotations

import math
import time
from asyncio import TimerHandle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from model_service.tensors import Array

if TYPE_CHECKING:
    from model_service.scheduling.scheduler import Scheduler


class Inputs(msgspec.Struct, frozen=True, gc=False):
    """What a request holds once it is read: checked arrays by input name, all with as many `rows` where the model's
    first axis is variable, and the outputs that are asked for."""

    arrays: dict[str, Array]
    rows: int
    output_names: tuple[str, ...]
    timeout_s: float | None = None


JSON = b"application/json"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A body to send. `json_length` is the length of its JSON part, before compression, where binary tensors follow."""

    body: bytes
    content_type: bytes = JSON
    json_length: int | None = None
    encoding: bytes | None = None


def answer_of(outcome: Answer | Exception) -> Answer:
    """The answer. Raises what there is instead."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Work(Protocol):
    """What a protocol makes of a request. Both run where the model runs, so that a request which is refused or given up
    is never parsed, and one that is large never holds up the event loop."""

    def read(self) -> Inputs:
        """The request's inputs. Raises RequestRefused."""

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer to it. Raises RequestRefused."""


class Job(msgspec.Struct, eq=False):
    """One request. `on_done` is called once, on the event loop, when `answer` or `error` is there; not if `gone`."""

    work: Work
    on_done: Callable[[Job], None] | None
    endpoint: str
    size_bytes: int
    timeout_s: float = math.inf
    may_inline: bool = True  # on the event loop: False where reading it takes long, however short it is
    submitted: float = msgspec.field(default_factory=time.monotonic)
    deadline: float = math.inf
    started: float = 0.0
    read_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    gone: bool = False
    is_lone: bool = False
    inputs: Inputs | None = None
    answer: Answer | None = None
    error: Exception | None = None
    run: Run | None = None
    expiry: TimerHandle | None = None
    scheduler: Scheduler | None = None

    @property
    def outcome(self) -> Answer | Exception:
        """The answer, or what there is instead; for `on_done`."""
        return self.answer or self.error or RuntimeError("a job ended without an answer")

    def let_go(self) -> None:
        """Forget, once it is settled, what leads back to this job: its run, who waits for it, and its error, by the
        frames that it went through. They would keep each other, and the body, until garbage is collected."""
        self.on_done = self.run = self.error = None

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        if self.scheduler:
            self.scheduler.give_up(self)


class Run:
    """A run of the model for some jobs; terminated when none of them is wanted any more."""

    __slots__ = ("jobs", "options")

    def __init__(self, jobs: list[Job], options: Any) -> None:
        self.jobs = jobs
        self.options = options

    def terminate_if_unwanted(self) -> None:
        """Ask ONNX Runtime to stop at the next node: https://onnxruntime.ai/docs/api/python/api_summary.html#runoptions"""
        if all(job.gone for job in self.jobs):
            self.options.terminate = True
