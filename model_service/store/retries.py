"""Trying again after what may pass: bounded, with a growing pause, each time told in the log."""

from __future__ import annotations

import logging
import random
from threading import Event

from model_service.errors import StartRefused
from model_service.store.aws import Broken
from model_service.store.transfer import Abandoned, Transfer

LONGEST_BACKOFF_S = 8.0

logger = logging.getLogger(__name__)


class Retries:
    """Failures in a row of one piece of work; the pauses end early when `stopped` is set."""

    def __init__(self, what: str, transfer: Transfer, stopped: Event) -> None:
        self._what = what
        self._transfer = transfer
        self._stopped = stopped
        self._failures = 0

    def succeeded(self) -> None:
        """Bytes have arrived: the next failure is the first again."""
        self._failures = 0

    def failed(self, error: Broken, position: int) -> None:
        """Log the failure and wait. Raises StartRefused after the last attempt, Abandoned if meanwhile stopped."""
        self._failures += 1
        if self._failures >= self._transfer.attempts:
            raise StartRefused(f"{error} (gave up after {self._failures} attempts)") from error
        longest_s = min(self._transfer.first_backoff_s * 2 ** (self._failures - 1), LONGEST_BACKOFF_S)
        pause_s = longest_s * random.uniform(0.5, 1)  # noqa: S311 - so that many tasks do not come back at once
        logger.warning(
            "attempt %d of %d to read %s failed at byte %d: %s; the next one in %.1f s",
            self._failures,
            self._transfer.attempts,
            self._what,
            position,
            error,
            pause_s,
        )
        if self._stopped.wait(pause_s):
            raise Abandoned
