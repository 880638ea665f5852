"""A transformer of 15 milliseconds: collecting requests into batches pays a little, waiting for them does not."""

from __future__ import annotations

from benchmarks import forms
from benchmarks.cells import interleave, side_by_side
from benchmarks.contenders import litserve, mlserver, naive, ours, triton
from benchmarks.field import Bench, raw, running
from benchmarks.models import TRANSFORMER
from benchmarks.report import Row
from benchmarks.versus import Versus, rate, rows_of

SECONDS = 3


def measure(bench: Bench) -> list[Row]:
    """Eight connections, 64 token ids as JSON."""
    makers = {
        "ours": ours(TRANSFORMER, forms.V2_JSON),
        "naive": naive(TRANSFORMER, forms.ROWS, intra_op_threads=0),
        "litserve": litserve(TRANSFORMER, forms.ROWS, workers=2, batch=8),
        "mlserver": mlserver(TRANSFORMER, forms.V2_JSON, parallel_workers=2),
        "triton": triton(TRANSFORMER, forms.V2_JSON, instances=2, batch=1),
    }
    with running(bench, TRANSFORMER, makers) as field, raw(bench, TRANSFORMER, threads=2, intra_op_threads=1) as alone:
        runs = field.runs(8, SECONDS) | {"raw": lambda: alone(SECONDS)}
        cells = interleave(side_by_side(runs, "ours", "raw", "triton"), bench.rounds)
    comparisons = [
        Versus("raw", "raw ORT, 2 threads", bar=0.95, aim=1),
        Versus("triton", "Triton"),
        Versus("naive", "naive FastAPI"),
        Versus("litserve", "LitServe"),
        Versus("mlserver", "MLServer"),
    ]
    return rows_of("transformer, JSON, 8 connections", "answers/s", rate, cells, field.absent, comparisons)
