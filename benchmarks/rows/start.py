"""From the start of the process to the first right answer; the model's file lies on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks import forms, models
from benchmarks.cells import interleave
from benchmarks.contenders import Maker, litserve, mlserver, naive, ours, triton
from benchmarks.errors import OursDoesNotRun, PeerDoesNotRun
from benchmarks.field import Bench
from benchmarks.models import RESNET
from benchmarks.report import Row, compare, compare_with_limit, not_measured
from benchmarks.verify import ask, check, expected_of

LIMIT_S, AIM_S = 2.0, 1.5
WORK, MEASURE = "ResNet-50, start", "s to the first right answer"
PEERS = {
    "naive FastAPI": naive(RESNET, forms.BYTES, intra_op_threads=0),
    "LitServe": litserve(RESNET, forms.MULTIPART, workers=2),
    "MLServer": mlserver(RESNET, forms.V2_BASE64, parallel_workers=2),
    "Triton": triton(RESNET, forms.V2_BINARY, instances=2, batch=1),
}


def measure(bench: Bench) -> list[Row]:
    """Starts in turn, one process at a time."""
    expected = expected_of(RESNET, models.make(RESNET, bench.directory))[0]
    absent: dict[str, str] = {}
    runs: dict[str, Callable[[], float]] = {}
    for name, maker in {"onnxship": ours(RESNET, forms.V2_BINARY), **PEERS}.items():
        runs[name] = lambda name=name, maker=maker: _start(bench, name, maker, expected)
    for name in list(runs):
        try:
            runs[name]()  # once unmeasured: the files are in the page cache for all
        except PeerDoesNotRun as error:
            if name == "onnxship":
                raise OursDoesNotRun(f"onnxship {error}") from error
            absent[name] = str(error)
            del runs[name]
    seconds = interleave(runs, bench.rounds)
    mine = seconds["onnxship"]
    rows = [compare_with_limit(WORK, MEASURE, mine, LIMIT_S, aim=AIM_S)]
    rows += [compare(WORK, MEASURE, mine, name, seconds[name], better="lower") for name in PEERS if name in seconds]
    return rows + [not_measured(WORK, MEASURE, name, why, better="lower") for name, why in absent.items()]


def _start(bench: Bench, name: str, maker: Maker, expected: np.ndarray) -> float:
    contender = maker(bench.directory)
    started = time.monotonic()
    try:
        contender.server.start().wait_ready(contender.ready_path)
        check(ask(contender, RESNET.rows()[0]), expected, "the first request")
        seconds = time.monotonic() - started
    finally:
        contender.server.stop()
    bench.say(f"    {name:14} {seconds:6.2f} s")
    return seconds
