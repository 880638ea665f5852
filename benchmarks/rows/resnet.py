"""A model of a hundred milliseconds: ONNX Runtime is the limit, and what a server adds must not show.

All rows of speed run with WIDE_PATH=auto, so that one configuration holds them all; memory is measured without it.
"""

from __future__ import annotations

from benchmarks import forms
from benchmarks.cells import interleave, side_by_side
from benchmarks.contenders import litserve, mlserver, naive, ours, triton
from benchmarks.field import Bench, raw, running
from benchmarks.models import RESNET
from benchmarks.report import Row, compare_with_limit
from benchmarks.versus import Versus, foreign_cores, memory_gb, p50, rate, rows_of

SECONDS = 4
MEMORY_LIMIT_GB = 0.36
PEERS = {
    "naive": naive(RESNET, forms.BYTES, intra_op_threads=0),
    "litserve": litserve(RESNET, forms.MULTIPART, workers=2),
    "mlserver": mlserver(RESNET, forms.V2_BASE64, parallel_workers=2),
    "triton": triton(RESNET, forms.V2_BINARY, instances=2, batch=1),
}
NAMES = {
    "naive": "naive FastAPI, bytes",
    "litserve": "LitServe, multipart",
    "mlserver": "MLServer, base64",
    "triton": "Triton, binary",
}


def measure_binary(bench: Bench) -> list[Row]:
    """Eight connections, tensors as bytes; each peer in its densest form."""
    makers = {"ours": ours(RESNET, forms.V2_BINARY, WIDE_PATH="auto")} | PEERS
    with running(bench, RESNET, makers) as field, raw(bench, RESNET, threads=2, intra_op_threads=1) as alone:
        runs = field.runs(8, SECONDS) | {"raw": lambda: alone(SECONDS)}
        cells = interleave(side_by_side(runs, "ours", "raw"), bench.rounds)
    comparisons = [Versus("raw", "raw ORT, 2 threads", bar=0.95, aim=0.98)]
    comparisons += [Versus(key, label) for key, label in NAMES.items()]
    return rows_of("ResNet-50, binary, 8 connections", "answers/s", rate, cells, field.absent, comparisons)


def measure_json(bench: Bench) -> list[Row]:
    """Eight connections, 1.3 MB of JSON numbers a request."""
    makers = {
        "ours": ours(RESNET, forms.V2_JSON, WIDE_PATH="auto"),
        "naive": naive(RESNET, forms.ROWS, intra_op_threads=0),
        "triton": triton(RESNET, forms.V2_JSON, instances=2, batch=1),
    }
    with running(bench, RESNET, makers) as field, raw(bench, RESNET, threads=2, intra_op_threads=1) as alone:
        runs = field.runs(8, SECONDS) | {"raw": lambda: alone(SECONDS)}
        cells = interleave(side_by_side(runs, "triton", "ours", "raw"), bench.rounds)
    comparisons = [
        Versus("raw", "raw ORT, 2 threads", bar=0.88, aim=0.92),
        Versus("triton", "Triton, JSON", bar=1),
        Versus("naive", "naive FastAPI, JSON"),
    ]
    return rows_of("ResNet-50, JSON, 8 connections", "answers/s", rate, cells, field.absent, comparisons)


def measure_1(bench: Bench) -> list[Row]:
    """One connection: the wide path gives a lone request both cores."""
    makers = {
        "ours": ours(RESNET, forms.V2_BINARY, WIDE_PATH="auto"),
        "ours-narrow": ours(RESNET, forms.V2_BINARY, WIDE_PATH="off"),
        "triton": PEERS["triton"],
    }
    with running(bench, RESNET, makers) as field, raw(bench, RESNET, threads=1, intra_op_threads=2) as alone:
        runs = field.runs(1, SECONDS) | {"raw": lambda: alone(SECONDS)}
        cells = interleave(side_by_side(runs, "ours", "raw"), bench.rounds)
    comparisons = [
        Versus("raw", "raw ORT, intra-op 2", bar=1.1),
        Versus("ours-narrow", "onnxship, WIDE_PATH=off"),
        Versus("triton", "Triton, binary"),
    ]
    return rows_of("ResNet-50, binary, 1 connection", "p50 ms", p50, cells, field.absent, comparisons)


def measure_memory(bench: Bench) -> list[Row]:
    """PSS of all processes under eight connections, without the wide path."""
    makers = {
        "ours": ours(RESNET, forms.V2_BINARY, WIDE_PATH="off"),
        "ours-wide": ours(RESNET, forms.V2_BINARY, WIDE_PATH="auto"),
    }
    with running(bench, RESNET, makers | PEERS) as field:
        cells = interleave(field.runs(8, SECONDS, samples_memory=True), bench.rounds)
    work, measure = "ResNet-50, memory under load", "PSS, GB"
    mine = [memory_gb(cell) for cell in cells["ours"]]
    limit = compare_with_limit(work, measure, mine, MEMORY_LIMIT_GB, foreign_cores=foreign_cores(cells["ours"]))
    comparisons = [Versus("ours-wide", "onnxship, WIDE_PATH=auto")]
    comparisons += [Versus(key, label) for key, label in NAMES.items()]
    return [limit, *rows_of(work, measure, memory_gb, cells, field.absent, comparisons)]
