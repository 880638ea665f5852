"""Time is an argument: one clock, one way to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from pipeline.errors import PipelineError

T = TypeVar("T")


class Clock(Protocol):
    """What stages may know of time."""

    def now(self) -> datetime:
        """The current time, with UTC as its zone."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class FakeClock:
    """A clock for tests: `sleep` returns at once and moves the time on."""

    time: datetime = datetime(2026, 11, 21, tzinfo=UTC)
    slept_s: float = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.time += timedelta(seconds=seconds)


def wait_until(
    probe: Callable[[], T | None],
    *,
    clock: Clock,
    timeout_s: float,
    interval_s: float,
    on_timeout: Callable[[], PipelineError],
) -> T:
    """Call `probe` every `interval_s` seconds until it returns something other than None.

    Raises what `on_timeout` makes when `timeout_s` seconds have passed without an answer.
    """
    deadline = clock.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None:
            return found
        if clock.monotonic() >= deadline:
            raise on_timeout()
        clock.sleep(interval_s)
