"""The contenders of a row, up and verified: those that cannot run are left out, with the reason."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks import models, wrk
from benchmarks.cells import Cell, CpuClock, Patience
from benchmarks.contenders import ROOT, Contender, Maker
from benchmarks.errors import OursDoesNotRun, PeerDoesNotRun
from benchmarks.models import Work
from benchmarks.processes import start_apart
from benchmarks.verify import expected_of, verify

OURS = "ours"
SETTLE_S = 0.1


@dataclass(frozen=True)
class Bench:
    """How to measure: where files go, how often, and how long if not as long as the row wants."""

    directory: Path
    rounds: int
    seconds: int | None
    say: Callable[[str], None]
    patience: Patience

    def cell_s(self, wanted: int) -> int:
        return self.seconds or wanted


@dataclass
class Field:
    """Running contenders by key, all frozen; `absent` has the reasons of those that do not run."""

    bench: Bench
    contenders: dict[str, Contender] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def requests(self, key: str) -> Path:
        return self.bench.directory / "requests" / key

    def runs(self, connections: int, seconds: int, *, samples_memory: bool = False) -> dict[str, Callable[[], Cell]]:
        """A load for each contender."""

        def run(key: str) -> Callable[[], Cell]:
            load = partial(self._load, key, connections, self.bench.cell_s(seconds), samples_memory)
            return lambda: self.bench.patience.measure(load)

        return {key: run(key) for key in self.contenders}

    def _load(self, key: str, connections: int, seconds: int, samples_memory: bool) -> Cell:
        contender = self.contenders[key]
        with awake(contender):
            clock = CpuClock(contender.server.cpu_s)
            load = wrk.start(contender.server.port, self.requests(key), connections=connections, seconds=seconds)
            pss = _highest_pss(contender, seconds) if samples_memory else 0
            cell = clock.read(wrk.read_result(load))
            contender.server.wait_idle()
        if cell.rate_per_s == 0 and key.startswith(OURS):
            raise OursDoesNotRun(f"onnxship answered nothing in {seconds} s; its log is {contender.server.log}")
        if cell.rate_per_s == 0:
            self.absent[key] = f"answered nothing in {seconds} s"
        self.bench.say(f"    {contender.name:14} {contender.form.name:10} {_words(cell)}")
        return replace(cell, pss_bytes=pss)


@contextlib.contextmanager
def awake(contender: Contender) -> Iterator[None]:
    """The contender runs; otherwise it is frozen."""
    contender.server.thaw()
    time.sleep(SETTLE_S)
    try:
        yield
    finally:
        contender.server.freeze()


def _highest_pss(contender: Contender, seconds: int) -> int:
    samples = []
    for _ in range(3):
        time.sleep(seconds / 4)
        samples.append(contender.server.pss_bytes())
    return max(samples)


def _words(cell: Cell) -> str:
    cores = f"{cell.server_cores:.2f} cores, foreign {cell.noise_cores:.2f}"
    return f"{cell.rate_per_s:10,.1f}/s  p50 {cell.p50_ms:8.2f} ms  {cores}"


@contextlib.contextmanager
def running(bench: Bench, work: Work, makers: Mapping[str, Maker]) -> Iterator[Field]:
    """The field of these contenders. A peer may be absent; without ours there is nothing to measure."""
    up = Field(bench)
    expected = expected_of(work, models.make(work, bench.directory))
    try:
        for key, make in makers.items():
            try:
                up.contenders[key] = contender = make(bench.directory)
                contender.server.start().wait_ready(contender.ready_path)
                verify(contender, expected)
                wrk.write_requests(up.requests(key), contender.requests())
                contender.server.wait_idle()  # onnxship looks for its wide path
                contender.server.freeze()
            except PeerDoesNotRun as error:
                if key.startswith(OURS):
                    raise OursDoesNotRun(f"onnxship {error}") from error
                if contender := up.contenders.pop(key, None):
                    contender.server.stop()
                up.absent[key] = str(error)
                bench.say(f"    {key} {error}")
        yield up
    finally:
        for contender in up.contenders.values():
            contender.server.stop()


@contextlib.contextmanager
def raw(bench: Bench, work: Work, *, threads: int, intra_op_threads: int) -> Iterator[Callable[[int], Cell]]:
    """ONNX Runtime alone in a process: a function that runs it for so many seconds."""
    model = models.make(work, bench.directory)
    command = [sys.executable, "-m", "benchmarks.raw", work.name, str(model), str(threads), str(intra_op_threads)]
    process = start_apart(command, cwd=ROOT)
    assert process.stdin
    assert process.stdout
    process.stdout.readline()

    def run(seconds: int) -> Cell:
        clock = CpuClock(lambda: _cpu_s(process.pid))
        process.stdin.write(f"{bench.cell_s(seconds)}\n")
        process.stdin.flush()
        cell = clock.read(Cell(**json.loads(process.stdout.readline())))
        bench.say(f"    {'ONNX Runtime':14} {f'{threads} x {intra_op_threads}':10} {_words(cell)}")
        return cell

    try:
        yield lambda seconds: bench.patience.measure(partial(run, seconds))
    finally:
        process.stdin.close()
        process.wait()


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
