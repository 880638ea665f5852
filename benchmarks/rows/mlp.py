"""A model of ten microseconds: what is measured is all that a server does beside running it."""

from __future__ import annotations

from benchmarks import forms
from benchmarks.cells import interleave, side_by_side
from benchmarks.contenders import Maker, litserve, mlserver, naive, ours, triton
from benchmarks.field import Bench, raw, running
from benchmarks.models import MLP
from benchmarks.report import Row, compare_with_limit
from benchmarks.versus import Versus, foreign_cores, p50, per_core, rate, rows_of

SECONDS = 2
AIM_P50_MS = 0.12


def measure_32(bench: Bench) -> list[Row]:
    """32 connections. Plain JSON against plain JSON, the protocol's JSON against the protocol's."""
    peers = {
        "naive": naive(MLP, forms.ROWS, intra_op_threads=1),
        "litserve": litserve(MLP, forms.ROWS, workers=1, batch=32, api_servers=2),
        "mlserver": mlserver(MLP, forms.V2_JSON, parallel_workers=0),
        "triton": triton(MLP, forms.V2_JSON, instances=1, batch=32),
    }
    logged = {"ours-logged": ours(MLP, forms.PREDICT, ACCESS_LOG="all")}
    with (
        running(bench, MLP, _ours() | logged | peers) as field,
        raw(bench, MLP, threads=1, intra_op_threads=1) as alone,
    ):
        runs = field.runs(32, SECONDS) | {"raw": lambda: alone(SECONDS)}
        cells = interleave(side_by_side(runs, "ours", "naive", "ours-v2", "triton"), bench.rounds)
    plain = [
        Versus("naive", "naive FastAPI", bar=10, aim=25),
        Versus("litserve", "LitServe"),
        Versus("raw", "raw ORT, 1 row a run", aim=0.35),
        Versus("ours-logged", "onnxship, a log line each"),
    ]
    protocol = [
        Versus("triton", "Triton", bar=1.5, aim=4, ours="ours-v2"),
        Versus("mlserver", "MLServer", ours="ours-v2"),
    ]
    work = "MLP, JSON, 32 connections"
    per_cpu = [
        Versus("naive", "naive FastAPI"),
        Versus("triton", "Triton", ours="ours-v2"),
        Versus("raw", "raw ORT, 1 row a run"),
    ]
    return [
        *rows_of(work, "answers/s, /predict", rate, cells, field.absent, plain),
        *rows_of(work, "answers/s, /v2", rate, cells, field.absent, protocol),
        *rows_of(work, "answers per CPU second", per_core, cells, field.absent, per_cpu),
    ]


def measure_1(bench: Bench) -> list[Row]:
    """One connection: the time that a lone request takes."""
    peers = {
        "naive": naive(MLP, forms.ROWS, intra_op_threads=1),
        "litserve": litserve(MLP, forms.ROWS, workers=1),
        "mlserver": mlserver(MLP, forms.V2_JSON, parallel_workers=0),
        "triton": triton(MLP, forms.V2_JSON, instances=1, batch=32),
    }
    with running(bench, MLP, _ours() | peers) as field:
        runs = side_by_side(field.runs(1, SECONDS), "ours", "naive", "ours-v2", "triton")
        cells = interleave(runs, bench.rounds)
    work = "MLP, JSON, 1 connection"
    plain = [Versus("naive", "naive FastAPI", bar=1), Versus("litserve", "LitServe", bar=1)]
    protocol = [
        Versus("triton", "Triton", bar=1, ours="ours-v2"),
        Versus("mlserver", "MLServer", bar=1, ours="ours-v2"),
    ]
    mine = cells["ours"]
    limit = compare_with_limit(
        work, "p50 ms, /predict", [p50(cell) for cell in mine], AIM_P50_MS, aim=AIM_P50_MS, is_bar=False,
        foreign_cores=foreign_cores(mine),
    )  # fmt: skip
    return [
        *rows_of(work, "p50 ms, /predict", p50, cells, field.absent, plain),
        *rows_of(work, "p50 ms, /v2", p50, cells, field.absent, protocol),
        limit,
    ]


def _ours() -> dict[str, Maker]:
    return {"ours": ours(MLP, forms.PREDICT), "ours-v2": ours(MLP, forms.V2_JSON)}
