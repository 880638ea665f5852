"""What was measured: every response after the warm-up, so that percentiles are exact and not from buckets."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

RELEASE_HEADER = "X-Onnxship-Release"
MAX_TIMES = 20_000


@dataclass
class Measurements:
    """Response times and answers of one listener in the measured part of a load test."""

    measure_from_s: float
    times_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""
    good_times_ms: list[float] = field(default_factory=list)

    def add(self, response: Any, response_time_ms: float, error: object) -> None:
        """Count one answer, or the failure to get one; called by Locust's request event."""
        if time.monotonic() - response_time_ms / 1000 < self.measure_from_s:
            return
        status = int(getattr(response, "status_code", 0) or 0)
        self.times_ms.append(response_time_ms)
        self.statuses[str(status) if status else "error"] += 1
        if status:
            headers = getattr(response, "headers", None) or {}
            self.releases[headers.get(RELEASE_HEADER) or ""] += 1
        if 200 <= status < 300:
            self.good_times_ms.append(response_time_ms)
        elif not self.first_failure:
            said = " ".join((getattr(response, "text", "") or "").split())[:200] if status else ""
            self.first_failure = f"{status or 'no answer'}: {said or error}"

    def as_result(self, measured_s: float) -> dict[str, Any]:
        """The result file's content."""
        count = len(self.times_ms)
        ordered = sorted(self.times_ms)
        return {
            "requests": count,
            "failures": count - len(self.good_times_ms),
            "rps": round(count / measured_s, 3) if measured_s > 0 else 0.0,
            "duration_s": round(measured_s, 3),
            "p50_ms": percentile(ordered, 50),
            "p95_ms": percentile(ordered, 95),
            "p99_ms": percentile(ordered, 99),
            "max_ms": percentile(ordered, 100),
            "statuses": dict(sorted(self.statuses.items())),
            "releases": dict(sorted((name, n) for name, n in self.releases.items() if name)),
            "first_failure": self.first_failure,
            "times_ms": [round(value, 3) for value in thinned(self.good_times_ms, MAX_TIMES)],
        }


def percentile(ordered: list[float], percent: float) -> float:
    """The nearest-rank percentile: a response time that really occurred; 0 when there is none."""
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(ordered[int(rank) - 1], 3)


def thinned(values: list[float], at_most: int) -> list[float]:
    """`at_most` of the values, evenly spread over their order, which is that of time."""
    if len(values) <= at_most:
        return values
    return [values[index * len(values) // at_most] for index in range(at_most)]
