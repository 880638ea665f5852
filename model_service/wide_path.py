"""The wide path: a request that is alone has all CPUs for its run, where that pays.

Looked for when the model is served already, in moments in which nothing is asked: nobody waits for it, a start least of
all. It has weights of its own, so a model that is large beside this machine's memory has none.
"""

from __future__ import annotations

import logging

from model_service.loading import open_model
from model_service.runtime.cpus import available_cpus
from model_service.runtime.memory import available_memory_bytes
from model_service.served import Served
from model_service.settings import Settings
from model_service.threads import in_thread

WIDE_FROM_S = 0.005  # a run shorter than this is not worth several threads
PAYS_BELOW = 0.8
TURNS = 5
MEMORY_SHARE = 0.25  # of all memory, for the second copy of the weights
COPIES = 3  # what a session takes in memory of its file's size, at most

logger = logging.getLogger(__name__)


async def widen(served: Served, settings: Settings) -> None:
    """Give `served` a wide path if WIDE_PATH says so. Raises StartRefused if it cannot be loaded once more."""
    cpus, scheduler = available_cpus(), served.scheduler
    if not _is_wanted(served, settings, cpus):
        return
    await scheduler.idle()
    if scheduler.is_closed:
        return
    wide = await in_thread(open_model, served.loaded.stored, settings, cpus)
    if settings.wide_path == "on":
        scheduler.widen(wide)
        return
    wide_s = narrow_s = float("inf")
    # In turn: a machine that others use may be slower now than it was a moment ago.
    for _ in range(TURNS):
        await scheduler.idle()
        if scheduler.is_closed:
            return
        wide_s = min(wide_s, (await in_thread(wide.run, served.loaded.row)).compute_s)
        narrow_s = min(narrow_s, (await in_thread(served.model.run, served.loaded.row)).compute_s)
    pays = wide_s < PAYS_BELOW * narrow_s
    if pays:
        scheduler.widen(wide)
    logger.info(
        "a lone request on %d threads takes %.1f ms instead of %.1f ms: %s",
        cpus,
        wide_s * 1000,
        narrow_s * 1000,
        "kept" if pays else "not kept",
    )


def _is_wanted(served: Served, settings: Settings, cpus: int) -> bool:
    loaded = served.loaded
    if settings.wide_path == "off" or cpus < 2 or settings.device != "cpu" or loaded.plan.is_inline:
        return False
    size_bytes = sum(file.size_bytes for file in loaded.manifest.files) * COPIES
    is_worth_it = loaded.plan.run_s >= WIDE_FROM_S and size_bytes <= available_memory_bytes() * MEMORY_SHARE
    return settings.wide_path == "on" or is_worth_it
