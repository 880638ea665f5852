"""How far a file's transfer is, in the log every few seconds."""

from __future__ import annotations

import logging
import time

from model_service.manifest import ModelFile

MB = 1_000_000

logger = logging.getLogger(__name__)


class Progress:
    """One file's transfer, from now on."""

    def __init__(self, file: ModelFile, every_s: float) -> None:
        self._file = file
        self._every_s = every_s
        self._started = self._told = time.monotonic()
        self._told_bytes = 0

    def tell(self, arrived_bytes: int) -> None:
        """Log how much is there and how fast it comes, unless that has been told just now."""
        now = time.monotonic()
        elapsed_s = now - self._told
        if elapsed_s < self._every_s or elapsed_s == 0:
            return
        logger.info(
            "fetching %s: %d of %d bytes (%.0f %%), %.1f MB/s",
            self._file.name,
            arrived_bytes,
            self._file.size_bytes,
            100 * arrived_bytes / self._file.size_bytes,
            (arrived_bytes - self._told_bytes) / elapsed_s / MB,
        )
        self._told, self._told_bytes = now, arrived_bytes

    def done(self) -> None:
        """Log that all of it is there."""
        elapsed_s = max(time.monotonic() - self._started, 1e-9)
        size_bytes = self._file.size_bytes
        logger.info(
            "fetched %s: %d bytes in %.2f s, %.1f MB/s",
            self._file.name,
            size_bytes,
            elapsed_s,
            size_bytes / elapsed_s / MB,
        )
