"""Which lifecycle stages were seen, and how long each lasted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pipeline.results import StageSpan
from pipeline.waiting import Clock


@dataclass
class Spans:
    """Stages in the order they were observed."""

    _closed: list[StageSpan] = field(default_factory=list)
    _open: tuple[str, datetime, float] | None = None

    def observe(self, stage: str, clock: Clock) -> bool:
        """Note the stage seen now; true when it is another than before."""
        if self._open and self._open[0] == stage:
            return False
        self.close(clock)
        self._open = (stage, clock.now(), clock.monotonic())
        return True

    def close(self, clock: Clock) -> tuple[StageSpan, ...]:
        """End the open stage; all stages so far."""
        if self._open:
            stage, started_at, began_s = self._open
            self._closed.append(StageSpan(stage, started_at.isoformat(), round(clock.monotonic() - began_s, 3)))
            self._open = None
        return tuple(self._closed)
