"""What this process serves, and whether: the models, the state of readiness."""

from __future__ import annotations

import asyncio
from pathlib import Path

from model_service.api_keys import open_api_keys
from model_service.control import ModelControl
from model_service.errors import RequestRefused
from model_service.loading import prepare_user_code
from model_service.metrics import Metrics
from model_service.models import Models
from model_service.settings import Settings
from model_service.threads import in_thread


class Serving:
    """The state that the apps and the life cycle share."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartRefused if there are API keys to be asked for that cannot be read."""
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(settings, self.metrics)
        self.control = ModelControl(settings, self.models)
        self.api_keys = open_api_keys(settings)
        self.is_draining = False
        self.is_loaded = False

    @property
    def is_ready(self) -> bool:
        """Whether the load balancer should send requests here."""
        return self.is_loaded and not self.is_draining

    @property
    def not_ready_reason(self) -> str:
        """Why not, in words."""
        return "the service is stopping" if self.is_draining else "the model is still loading"

    def refuse_if_loading(self) -> None:
        """Raise RequestRefused(503) before all is loaded; while the service drains it is answered."""
        if not self.is_loaded:
            raise RequestRefused(503, self.not_ready_reason, retry_after_s=1)

    async def load(self, working_directory: Path) -> None:
        """Load what is to be served, and be ready afterwards. Raises StartRefused."""
        await self.control.start(await in_thread(prepare_user_code, working_directory))
        self.is_loaded = True

    async def reload_api_keys(self) -> None:
        """Read the API keys again, every now and then, for ever."""
        while self.api_keys:
            await asyncio.sleep(self.settings.api_keys_reload_s)
            await in_thread(self.api_keys.reload)
