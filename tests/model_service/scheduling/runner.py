"""A scheduler with a real model on a real event loop, and jobs for it."""

import asyncio
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_service.metrics import ModelStats
from model_service.runtime.model import Model, load_model
from model_service.scheduling.job import Answer, Inputs, Job
from model_service.scheduling.plan import Plan, QueueLimits
from model_service.scheduling.scheduler import Scheduler

NO_LIMITS = QueueLimits(max_pending=10_000, max_queue_s=1e9, max_queue_bytes=2**40)
INLINE = Plan(slots=1, max_batch=64, is_inline=True)
SLOTS = Plan(slots=2, max_batch=8)


def loaded(directory: Path, model: bytes) -> Model:
    path = directory / "model.onnx"
    path.write_bytes(model)
    return load_model(path, name="tiny", version="1", platform="onnx_onnxv1", device="cpu")


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
    """A scheduler, and jobs whose outcomes can be awaited."""

    def __init__(self, model: Model, plan: Plan, limits: QueueLimits = NO_LIMITS) -> None:
        self.stats = ModelStats("tiny", "1")
        self.scheduler = Scheduler(model, plan, limits, self.stats)

    def submit(
        self, work: Asked, *, size_bytes: int = 10, timeout_s: float = math.inf, may_inline: bool = True
    ) -> tuple[Job, asyncio.Future]:
        done = asyncio.get_running_loop().create_future()
        job = Job(
            work,
            lambda job: done.set_result(job.outcome),
            endpoint="infer",
            size_bytes=size_bytes,
            timeout_s=timeout_s,
            may_inline=may_inline,
        )
        self.scheduler.submit(job)
        return job, done

    async def answers(self, *arrays: np.ndarray) -> list[str]:
        outcomes = await asyncio.gather(*[self.submit(Asked(array))[1] for array in arrays])
        return [outcome.body.decode() if isinstance(outcome, Answer) else repr(outcome) for outcome in outcomes]

    @property
    def runs(self) -> int:
        return self.stats.totals["nv_inference_exec_count"]


def rows(*values: float) -> np.ndarray:
    return np.array([[value] for value in values], np.float32)
