"""One measurement of one contender, and how rounds of them are made: all in turn, so that a drift meets them all."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import psutil

Measured = TypeVar("Measured")
NOISY_CORES = 0.25


@dataclass(frozen=True)
class Cell:
    """Figures of a few seconds; cores are CPU time per time, the foreign ones of processes that are not measured."""

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int = 0
    pss_bytes: int = 0
    server_cores: float = 0.0
    foreign_cores: float = 0.0
    stolen_cores: float = 0.0

    @property
    def noise_cores(self) -> float:
        """What the machine, or the host under it, did beside the measurement."""
        return self.foreign_cores + self.stolen_cores


def busy_cores() -> float:
    """How many cores all processes use, over half a second."""
    return psutil.cpu_percent(0.5) / 100 * (psutil.cpu_count() or 1)


@dataclass
class Patience:
    """Measures a noisy cell again, once the machine is quiet, for `left_s` seconds in all."""

    left_s: float
    say: Callable[[str], None]
    busy_cores: Callable[[], float] = busy_cores

    def measure(self, run: Callable[[], Cell]) -> Cell:
        """The run's cell: the first quiet one, or the last when the patience is used up."""
        while True:
            self._wait_quiet()
            started = time.monotonic()
            cell = run()
            if cell.noise_cores <= NOISY_CORES or self.left_s <= 0:
                return cell
            self.left_s -= time.monotonic() - started
            self.say(
                f"      again: {cell.noise_cores:.2f} cores were busy elsewhere; patience for {self.left_s:.0f} s more"
            )

    def _wait_quiet(self) -> None:
        """Nothing that is measured runs now, so whatever is busy is foreign."""
        while self.left_s > 0:
            started = time.monotonic()
            if self.busy_cores() <= NOISY_CORES:
                return
            self.left_s -= time.monotonic() - started


@dataclass
class CpuClock:
    """Who used the machine since it was made; `server_cpu_s` tells the CPU time of what is measured."""

    server_cpu_s: Callable[[], float]

    def __post_init__(self) -> None:
        self.started = self._read()

    def read(self, cell: Cell) -> Cell:
        """The cell with its three numbers of cores."""
        elapsed, busy, stolen, own, server = (now - then for now, then in zip(self._read(), self.started, strict=True))
        return replace(
            cell,
            server_cores=server / elapsed,
            foreign_cores=max(0.0, (busy - own - server) / elapsed),
            stolen_cores=stolen / elapsed,
        )

    def _read(self) -> tuple[float, float, float, float, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + children.ru_utime + children.ru_stime
        return time.monotonic(), busy, times.steal, own, self.server_cpu_s()


def side_by_side(runs: Mapping[str, Measured], *names: str) -> dict[str, Measured]:
    """`runs` with those of `names` first and in this order: what is judged one by the other runs right after it,
    because a machine that others use drifts within a round."""
    ordered = [name for name in names if name in runs]  # a peer may be absent
    return {name: runs[name] for name in (*ordered, *(name for name in runs if name not in ordered))}


def interleave(runs: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """What each run gave, round by round; every second round goes the other way round."""
    measured: dict[str, list[Measured]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            measured[name].append(runs[name]())
    return measured
