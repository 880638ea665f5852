"""What this process serves, and whether: the models, the state of readiness."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_service.api_keys import open_api_keys
from model_service.errors import RequestRefused
from model_service.loading import load, load_wide
from model_service.metrics import Metrics
from model_service.models import Models
from model_service.settings import Settings


class Serving:
    """The state that the apps and the life cycle share."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartRefused if there are API keys to be asked for that cannot be read."""
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(settings, self.metrics)
        self.api_keys = open_api_keys(settings)
        self.is_draining = False
        # A pool of its own: the end of the process must not wait for a load, as it does for asyncio's default one.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")

    @property
    def is_ready(self) -> bool:
        """Whether the load balancer should send requests here."""
        return len(self.models) > 0 and not self.is_draining

    @property
    def not_ready_reason(self) -> str:
        """Why not, in words."""
        return "the service is stopping" if self.is_draining else "the model is still loading"

    def refuse_if_loading(self) -> None:
        """Raise RequestRefused(503) before there is a model; while the service drains there still is one."""
        if not len(self.models):
            raise RequestRefused(503, self.not_ready_reason, retry_after_s=1)

    async def load(self, working_directory: Path) -> None:
        """Load the model in a thread, and be ready afterwards. Raises StartRefused."""
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._loader, load, self.settings, working_directory)
        served = self.models.serve(loaded)
        wide = await loop.run_in_executor(self._loader, load_wide, loaded, self.settings)
        if wide:
            served.scheduler.widen(wide)

    async def reload_api_keys(self) -> None:
        """Read the API keys again, every now and then, for ever."""
        while self.api_keys:
            await asyncio.sleep(self.settings.api_keys_reload_s)
            await asyncio.get_running_loop().run_in_executor(self._background, self.api_keys.reload)
