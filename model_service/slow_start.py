"""A start that takes long, or hangs, says again and again which of its steps has not ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TOLD_EVERY_S = 10.0

logger = logging.getLogger(__name__)


@contextmanager
def told(step: str, every_s: float = TOLD_EVERY_S) -> Iterator[None]:
    """Within the block a log line every `every_s` seconds: "still in service.py startup() after 30 s".

    From a thread: the step itself may never give the word back, in the user's code or while S3 is silent.
    """
    over = threading.Event()
    began_s = time.monotonic()

    def tell() -> None:
        while not over.wait(every_s):
            logger.warning("still in %s after %.0f s", step, time.monotonic() - began_s)

    threading.Thread(target=tell, name="slow start", daemon=True).start()
    try:
        yield
    finally:
        over.set()
