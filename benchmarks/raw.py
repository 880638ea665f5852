"""ONNX Runtime without a server: `python -m benchmarks.raw WORK MODEL THREADS INTRA_OP_THREADS`.

Reads a number of seconds per line on stdin, runs the model for so long, one row a run, and writes a line of JSON. All
threads share one session. Inputs are arrays already: no protocol, no parsing.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import onnxruntime

from benchmarks import models


def session_of(model: str, intra_op_threads: int) -> onnxruntime.InferenceSession:
    """The model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_for(session: onnxruntime.InferenceSession, rows: np.ndarray, seconds: float, threads: int) -> dict[str, float]:
    """Runs per second and their latencies, from all threads."""
    latencies_s: list[list[float]] = [[] for _ in range(threads)]
    started = time.perf_counter()

    def work(number: int) -> None:
        name, turn, kept = session.get_inputs()[0].name, number, latencies_s[number]
        before = time.perf_counter()
        while before - started < seconds:
            session.run(None, {name: rows[turn % len(rows)]})
            after = time.perf_counter()
            kept.append(after - before)
            before, turn = after, turn + 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(1, threads)]
    for worker in workers:
        worker.start()
    work(0)
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    merged = np.concatenate(latencies_s)
    p50, p99 = np.percentile(merged, [50, 99]) * 1000
    return {"rate_per_s": len(merged) / elapsed, "p50_ms": float(p50), "p99_ms": float(p99)}


def main(work_name: str, model: str, threads: str, intra_op_threads: str) -> None:
    work = next(work for work in (models.MLP, models.RESNET, models.TRANSFORMER) if work.name == work_name)
    session, rows = session_of(model, int(intra_op_threads)), work.rows()
    run_for(session, rows, 0.2, int(threads))
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - the line is what the parent reads
    for line in sys.stdin:
        print(json.dumps(run_for(session, rows, float(line), int(threads))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
