"""How a model is run: how many rows at once, on how many threads, and whether on the event loop itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided once, when the model is loaded.

    `max_batch` rows go into a run at most (1: no batching); `window_s` is how long a free slot waits for more of them;
    `buckets`, ascending, are the row counts that runs are padded to. `run_s` is what a run of one row took.
    """

    slots: int
    max_batch: int = 1
    window_s: float = 0.0
    buckets: tuple[int, ...] = ()
    is_inline: bool = False
    run_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait for one model before further requests are refused."""

    max_pending: int
    max_queue_s: float
    max_queue_bytes: int
