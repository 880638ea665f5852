"""When a user's turns are: evenly in time, and not together with the others'.

Locust starts users in batches, and its own pacing counts from a user's creation: every batch would send as a burst.
"""

from __future__ import annotations

from dataclasses import dataclass

GOLDEN_RATIO = 0.618034


def offset_s(index: int, turns_per_s: float) -> float:
    """How long user `index` waits before its first turn: less than one turn's time.

    Multiples of the golden ratio, modulo 1, lie evenly however many there are.
    """
    return index * GOLDEN_RATIO % 1 / turns_per_s


@dataclass
class Pace:
    """The turns of one user; `due_s` is when the last one was due."""

    turns_per_s: float
    due_s: float

    def wait_s(self, now_s: float) -> float:
        """Until the next turn. One that is late comes at once, and those after it a turn's time later."""
        self.due_s = max(now_s, self.due_s + 1 / self.turns_per_s)
        return self.due_s - now_s
