"""Four times more than the machine can do: what is taken is answered, what is not is refused at once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import forms
from benchmarks.contenders import ROOT, ours
from benchmarks.errors import CannotMeasure
from benchmarks.field import Bench, Field, awake, raw, running
from benchmarks.models import RESNET
from benchmarks.open_loop import Outcome
from benchmarks.processes import start_apart
from benchmarks.report import Row, compare, compare_with_limit, not_measured

SECONDS, WARM_S, RAW_SECONDS = 12, 2.0, 4
FACTOR = 4
MAX_PENDING = 18  # two run, sixteen wait: 0.9 s at 20 a second
REFUSAL_LIMIT_MS, MEMORY_LIMIT = 20.0, 1.1
WORK = "ResNet-50, binary, 4 x overload"


@dataclass(frozen=True)
class Burst:
    """What one overload did to a server."""

    goodput_per_s: float
    refused_p99_ms: float | None
    others: int
    pss_before_bytes: int
    pss_after_bytes: int


def measure(bench: Bench) -> list[Row]:
    """An open loop at 4 x the rate that raw ONNX Runtime had just before."""
    makers = {"ours": ours(RESNET, forms.V2_BINARY, WIDE_PATH="auto", MAX_PENDING=str(MAX_PENDING))}
    limits, bursts = [], []
    with running(bench, RESNET, makers) as field, raw(bench, RESNET, threads=2, intra_op_threads=1) as alone:
        before = alone(RAW_SECONDS).rate_per_s
        _burst(bench, field, FACTOR * before, seed=0)  # unmeasured: memory grows to what the queue's bound lets it be
        for number in range(bench.rounds):
            bursts.append(_burst(bench, field, FACTOR * before, seed=1 + number))
            after = alone(RAW_SECONDS).rate_per_s
            limits.append((before + after) / 2)
            before = after
    return rows_of(limits, bursts)


def rows_of(limits: Sequence[float], bursts: Sequence[Burst]) -> list[Row]:
    """Goodput, refusals, whatever else came, memory."""
    goodput = [burst.goodput_per_s for burst in bursts]
    refused = [burst.refused_p99_ms for burst in bursts if burst.refused_p99_ms is not None]
    others = sum(burst.others for burst in bursts)
    before, after = (
        [getattr(burst, name) / 1e9 for burst in bursts] for name in ("pss_before_bytes", "pss_after_bytes")
    )
    measure = "p99 ms of a 503"
    return [
        compare(WORK, "goodput, answers/s", goodput, "raw ORT, 2 threads", limits, bar=0.95),
        compare_with_limit(WORK, measure, refused, REFUSAL_LIMIT_MS)
        if refused
        else not_measured(WORK, measure, "the limit", "no request was refused", bar=1.0, better="lower"),
        Row(WORK, "time-outs and broken answers", others, "none", 0, None, ok=others == 0, better="lower",
            note=f"{others} of all requests"),
        compare(WORK, "PSS after, GB", after, "before", before, better="lower", bar=MEMORY_LIMIT),
    ]  # fmt: skip


def _burst(bench: Bench, field: Field, rate_per_s: float, *, seed: int) -> Burst:
    contender = field.contenders["ours"]
    seconds = max(bench.cell_s(SECONDS), WARM_S + 1)
    with awake(contender):
        before = contender.server.pss_bytes()
        outcomes = _offer(contender.server.port, field.requests("ours"), rate_per_s, seconds, seed)
        after = contender.server.pss_bytes()
    burst = judge(outcomes, seconds, before, after)
    statuses = Counter(outcome.status for outcome in outcomes)
    bench.say(
        f"    {contender.name:14} offered {rate_per_s:.0f}/s: {dict(statuses)}, goodput {burst.goodput_per_s:.1f}/s"
    )
    return burst


def _offer(port: int, requests: Path, rate_per_s: float, seconds: float, seed: int) -> list[Outcome]:
    command = [sys.executable, "-m", "benchmarks.open_loop", str(port), str(requests)]
    generator = start_apart([*command, str(rate_per_s), str(seconds), str(seed)], cwd=ROOT)
    output, _ = generator.communicate()
    if generator.returncode:
        raise CannotMeasure(f"the open-loop generator failed: {output.strip()[-300:]}", "see above")
    return [Outcome(*fields) for fields in json.loads(output)]


def judge(outcomes: Sequence[Outcome], seconds: float, before: int, after: int) -> Burst:
    """Goodput counts the 200s that ended after the warm-up and before the last request was sent."""
    good = [outcome for outcome in outcomes if outcome.status == 200 and WARM_S <= outcome.ended_s < seconds]
    refused = [outcome.latency_s * 1000 for outcome in outcomes if outcome.status == 503]
    others = sum(outcome.status not in (200, 503) for outcome in outcomes)
    p99 = float(np.percentile(refused, 99)) if refused else None
    return Burst(len(good) / (seconds - WARM_S), p99, others, before, after)
