"""Which models are served, where that may change: from a repository, at the start, by polling, or when it is asked for.

A new version is fetched, verified, loaded and warmed beside the old one, takes over in one step, and the old one is
drained and freed. What fails leaves the old one serving.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from model_service.errors import RequestRefused, StartRefused
from model_service.loading import load
from model_service.models import Models
from model_service.runtime.memory import give_back_freed_memory
from model_service.served import Served
from model_service.settings import Settings
from model_service.store.repository import Listed, list_repository
from model_service.threads import in_thread
from model_service.user_code import UserCode
from model_service.wide_path import widen

LONGEST_PAUSE_S = 900.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed `count` times in a row, and when a service that polls tries it again, by the loop's clock."""

    reason: str
    count: int
    retry_at: float


class ModelControl:
    """Loads and unloads models; one change at a time."""

    def __init__(self, settings: Settings, models: Models) -> None:
        self._settings = settings
        self._models = models
        self._user_code = UserCode()
        self._changing = asyncio.Lock()
        self._marks: dict[str, str] = {}  # of what was tried last, whether it could be loaded or not
        self._failures: dict[str, Failure] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, user_code: UserCode) -> None:
        """Load what is to be there from the start. Raises StartRefused if any of it cannot be; of a repository that is
        followed, if all of it cannot be."""
        self._user_code = user_code
        settings = self._settings
        if not settings.model_repository_uri:
            await self._load(settings)
            return
        listed = await in_thread(list_repository, settings)
        names = list(listed)
        if settings.model_control == "explicit":
            names = [name for name in settings.load_models.split(",") if name]
        for name in names:
            if name not in listed:
                raise StartRefused(f"LOAD_MODELS names `{name}`; the repository has {', '.join(listed) or 'none'}")
            try:
                await self._change(name, listed[name])
            except StartRefused as error:
                if settings.model_control != "poll":
                    raise StartRefused(f"model {name}: {error}") from error
                # What a running service survives must not keep it from starting again.
                logger.error("model %s: %s; the other models are served", name, error)
        if names and not len(self._models):
            raise StartRefused("none of the models in the repository can be served; the lines above say why")

    async def poll(self) -> None:
        """Follow the repository, for ever."""
        while True:
            await asyncio.sleep(self._settings.model_poll_s)
            try:
                await self._follow(await in_thread(list_repository, self._settings))
            except StartRefused as error:
                logger.error("%s; what is served stays", error)
            except Exception:  # a fault of the service's own: it would end this for good, and nobody would know
                logger.exception("the model repository could not be followed; what is served stays")

    async def load(self, name: str) -> None:
        """Load what the repository has under `name`. Raises RequestRefused(400) in Triton's words if that fails."""
        try:
            listed = (await in_thread(list_repository, self._settings)).get(name)
            if listed is None:
                raise StartRefused("the repository has no such model")
            await self._change(name, listed)
        except StartRefused as error:
            raise RequestRefused(400, f"failed to load '{name}': {error}") from error

    async def unload(self, name: str) -> None:
        """Stop serving every version of `name`. Raises RequestRefused(404) if there is none."""
        async with self._changing:
            self._models.find(name)
            self._marks.pop(name, None)
            self._failures.pop(name, None)
            retiring = [self._retire(self._models.find(name, version)) for version in self._models.versions(name)]
        await asyncio.gather(*retiring)

    async def index(self) -> list[dict[str, str]]:
        """$repository_index_response: what is served, and what could be or failed.

        https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_repository.html
        """
        entries = [
            {"name": served.model.name, "version": served.model.version, "state": "READY", "reason": ""}
            for served in self._models.all
        ]
        known = {entry["name"] for entry in entries}
        listed = await in_thread(list_repository, self._settings) if self._settings.model_repository_uri else {}
        for name in listed:
            if name in self._failures or name not in known:  # a newer version may have failed beside one that serves
                failure = self._failures.get(name)
                reason = failure.reason if failure else "not loaded"
                entries.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": reason})
        return entries

    async def _follow(self, listed: dict[str, Listed]) -> None:
        for name, found in listed.items():
            if self._marks.get(name) != found.mark or self._is_due(name):
                try:
                    await self._change(name, found)
                except StartRefused as error:
                    words = "model %s: %s; what is served stays; tried again when it changes, or in %.1f s"
                    logger.error(words, name, error, self._failures[name].retry_at - asyncio.get_running_loop().time())
                except Exception:  # one model's fault is not the others'
                    logger.exception("model %s could not be loaded; what is served stays", name)
        for name in [name for name in self._marks if name not in listed]:
            try:
                await self.unload(name)
            except RequestRefused:  # it was never served
                self._marks.pop(name, None)
                self._failures.pop(name, None)

    async def _change(self, name: str, listed: Listed) -> None:
        async with self._changing:
            is_another = self._marks.get(name) != listed.mark
            self._marks[name] = listed.mark
            try:
                await self._load(self._settings_for(name, listed), name)
            except StartRefused as error:
                self._note_failure(name, str(error), is_first=is_another)
                raise
            self._failures.pop(name, None)

    def _note_failure(self, name: str, reason: str, *, is_first: bool) -> None:
        """What failed may have been the store, the disk or the memory, and pass: it is tried again, ever less often."""
        count = 1 if is_first or name not in self._failures else self._failures[name].count + 1
        pause_s = min(self._settings.model_poll_s * 2**count, LONGEST_PAUSE_S)
        self._failures[name] = Failure(reason, count, asyncio.get_running_loop().time() + pause_s)
        self._models.count_failed_load(name)

    def _is_due(self, name: str) -> bool:
        failure = self._failures.get(name)
        return failure is not None and asyncio.get_running_loop().time() >= failure.retry_at

    async def _load(self, settings: Settings, name: str | None = None) -> None:
        """Raises StartRefused."""
        try:
            loading = in_thread(load, settings, self._user_code, self._models, name)
            loaded = await asyncio.wait_for(loading, settings.load_timeout_s)
        except TimeoutError as error:
            raise StartRefused(f"the model was not loaded within {settings.load_timeout_s:g} s") from error
        if loaded is None:
            return  # this very version is served already
        served = self._models.serve(loaded)
        keep = self._models.versions(loaded.model.name)[-settings.keep_versions :]
        for version in self._models.versions(loaded.model.name):
            if version not in keep:
                self._retire(self._models.find(loaded.model.name, version))
        self._begin(self._after_load(served, settings))

    async def _after_load(self, served: Served, settings: Settings) -> None:
        """What can wait until the model is served."""
        await in_thread(give_back_freed_memory)
        try:
            await widen(served, settings)
        except Exception:
            if not served.scheduler.is_closed:  # else its files may be gone by now
                logger.exception("no wide path for model %s, which is served without", served.model.name)
        await in_thread(give_back_freed_memory)

    def _retire(self, served: Served) -> asyncio.Task[None]:
        """Withdraw `served` at once; the task ends when all that it had taken is answered, and its memory is free."""
        self._models.withdraw(served)
        return self._begin(self._end(served))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop itself would forget it
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self, served: Served) -> None:
        name, version, directory = served.model.name, served.model.version, served.loaded.stored.directory
        await self._models.end(served)
        del served
        await in_thread(_free)
        async with self._changing:  # the same version may come back, and has the same directory
            if not self._models.has(name, version):
                await in_thread(shutil.rmtree, directory, True)
        logger.info("model %s version %s is retired", name, version)

    def _settings_for(self, name: str, listed: Listed) -> Settings:
        return replace(
            self._settings,
            model_manifest_uri=listed.uri,
            model_manifest_version_id=listed.version_id,
            model_manifest_sha256="",
        )


def _free() -> None:
    gc.collect()
    give_back_freed_memory()
