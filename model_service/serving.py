"""What this process serves, and whether: the model once it is loaded, the worker threads, the state of readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_service.cpus import available_cpus
from model_service.errors import RequestRefused
from model_service.loading import Served, load_served
from model_service.metrics import Metrics
from model_service.protocol import Answer
from model_service.settings import Settings


class Serving:
    """The state that the app and the life cycle share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.served: Served | None = None
        self.is_draining = False
        self._pending = 0
        self._pool = ThreadPoolExecutor(settings.worker_threads or available_cpus(), thread_name_prefix="inference")

    @property
    def is_ready(self) -> bool:
        """Whether the load balancer should send requests here."""
        return self.served is not None and not self.is_draining

    @property
    def not_ready_reason(self) -> str:
        """Why not, in words."""
        return "the service is stopping" if self.is_draining else "the model is still loading"

    def current(self) -> Served:
        """The model to answer with; while the service drains there still is one. Raises RequestRefused(503)."""
        if self.served is None:
            raise RequestRefused(503, self.not_ready_reason, retry_after_s=1)
        return self.served

    async def load(self, working_directory: Path) -> None:
        """Load the model in a worker thread, and be ready afterwards. Raises StartRefused."""
        loop = asyncio.get_running_loop()
        self.served = await loop.run_in_executor(self._pool, load_served, self.settings, working_directory)

    async def answer(self, endpoint: str, work: Callable[[Served], Answer]) -> Answer:
        """What `work` makes in a worker thread, counted. Raises RequestRefused, 503 at once when too many wait."""
        served = self.current()
        model = served.model
        started = time.perf_counter()
        try:
            queue_s, answer = await self._in_worker(served, work)
        except RequestRefused as refused:
            self.metrics.failed(model.name, model.version, refused.status)
            raise
        except Exception:
            self.metrics.failed(model.name, model.version, 500)
            raise
        self.metrics.succeeded(
            model.name,
            model.version,
            endpoint,
            rows=answer.rows,
            total_s=time.perf_counter() - started,
            queue_s=queue_s,
            compute_s=answer.compute_s,
        )
        return answer

    async def _in_worker(self, served: Served, work: Callable[[Served], Answer]) -> tuple[float, Answer]:
        if self._pending >= self.settings.max_pending:
            raise RequestRefused(503, f"{self._pending} requests are waiting already", retry_after_s=1)
        gauge = self.metrics.pending.labels(served.model.name, served.model.version)
        submitted = time.perf_counter()

        def timed() -> tuple[float, Answer]:
            queue_s = time.perf_counter() - submitted
            return queue_s, work(served)

        self._pending += 1
        gauge.set(self._pending)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, timed)
        finally:
            self._pending -= 1
            gauge.set(self._pending)
