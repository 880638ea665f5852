"""A job: one request on its way through the scheduler."""

from __future__ import annotations

import time
from asyncio import TimerHandle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from model_service.tensors import Array

if TYPE_CHECKING:
    from model_service.scheduling.scheduler import Scheduler


class Inputs(NamedTuple):
    """What a request holds once it is read: checked arrays by input name, all with as many `rows` where the model's
    first axis is variable, and the outputs that are asked for."""

    arrays: dict[str, Array]
    rows: int
    output_names: tuple[str, ...]
    timeout_s: float | None = None


JSON = b"application/json"


class Answer(NamedTuple):
    """A body to send. `json_length` is the length of its JSON part, before compression, where binary tensors follow."""

    body: bytes
    content_type: bytes = JSON
    json_length: int | None = None
    encoding: bytes | None = None


class Work(Protocol):
    """What a protocol makes of a request. Both run where the model runs, so that a request which is refused or given up
    is never parsed, and one that is large never holds up the event loop."""

    def read(self) -> Inputs:
        """The request's inputs. Raises RequestRefused."""

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer to it. Raises RequestRefused."""


class Job:
    """One request. `on_done` is called once, on the event loop, when `answer` or `error` is there; not if `gone`."""

    __slots__ = (
        "answer",
        "compute_s",
        "deadline",
        "endpoint",
        "error",
        "expiry",
        "gone",
        "inputs",
        "is_lone",
        "may_inline",
        "on_done",
        "read_s",
        "run",
        "scheduler",
        "size_bytes",
        "started",
        "submitted",
        "work",
        "write_s",
    )

    def __init__(
        self,
        work: Work,
        on_done: Callable[[Job], None],
        *,
        endpoint: str,
        size_bytes: int,
        timeout_s: float | None = None,
        may_inline: bool = True,
    ) -> None:
        self.work = work
        self.on_done = on_done
        self.endpoint = endpoint
        self.size_bytes = size_bytes
        self.submitted = time.monotonic()
        self.deadline = self.submitted + timeout_s if timeout_s is not None else None
        self.started = self.submitted
        self.read_s = self.compute_s = self.write_s = 0.0
        self.gone = False
        self.is_lone = False
        self.may_inline = may_inline  # on the event loop: False where reading it takes long, however short it is
        self.inputs: Inputs | None = None
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.run: Run | None = None
        self.expiry: TimerHandle | None = None
        self.scheduler: Scheduler | None = None

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
