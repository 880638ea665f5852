"""What the users saw, held against the load balancer's own log and the weights it had."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Request:
    """One request as its sender saw it; times in seconds since the epoch."""

    start: float
    end: float
    release: str
    failed: str

    @property
    def latency_ms(self) -> float:
        return (self.end - self.start) * 1000


def read(path: Path) -> list[Request]:
    """The requests of the traffic process, in order of their start."""
    lines = path.read_text().splitlines()
    return sorted((Request(**json.loads(line)) for line in lines), key=lambda request: request.start)


def summary(requests: list[Request]) -> dict[str, Any]:
    """Counts by release and latency percentiles, and a timeline in seconds since the first request."""
    latencies = [request.latency_ms for request in requests] or [0.0]
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(latencies, [50, 95, 99]))
    failures = [request.failed for request in requests if request.failed]
    return {
        "requests": len(requests),
        "failed": len(failures),
        "failures": dict(Counter(failures).most_common(5)),
        "by_release": dict(Counter(request.release for request in requests)),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "timeline": timeline(requests),
    }


def timeline(requests: list[Request]) -> list[dict[str, Any]]:
    """Second by second: requests by release, failures, and the median and 99th percentile in ms."""
    if not requests:
        return []
    zero = requests[0].start
    seconds: dict[int, list[Request]] = {}
    for request in requests:
        seconds.setdefault(int(request.start - zero), []).append(request)
    return [
        {
            "second": second,
            "by_release": dict(Counter(request.release for request in group)),
            "failed": sum(bool(request.failed) for request in group),
            "p50_ms": round(float(np.percentile([r.latency_ms for r in group], 50)), 2),
            "p99_ms": round(float(np.percentile([r.latency_ms for r in group], 99)), 2),
        }
        for second, group in sorted(seconds.items())
    ]


def against_weights(requests: list[Request], order: list[str], shifts: list[float]) -> list[str]:
    """Answers that the weights do not allow, in words.

    `order` lists the releases that had production one after the other, `shifts` the times between them. A request
    may be answered by any release that had production at some moment between its start and its end.
    """
    if len(shifts) != len(order) - 1:
        return [f"{len(order)} releases had production, but the weights moved {len(shifts)} times"]
    begins, ends = [float("-inf"), *shifts], [*shifts, float("inf")]
    wrong = []
    for request in requests:
        allowed = {
            release
            for release, begin, end in zip(order, begins, ends, strict=True)
            if request.start <= end and request.end >= begin
        }
        if not request.failed and request.release not in allowed:
            wrong.append(f"a request of {request.start:.3f} was answered by {request.release}, not {sorted(allowed)}")
    return wrong


def against_log(requests: list[Request], logged: dict[str, int]) -> list[str]:
    """Where the counts by release of the users and of the load balancer's log differ, in words."""
    seen = Counter(request.release for request in requests)
    return [
        f"{release or '(none)'}: users counted {seen[release]}, the load balancer {logged.get(release, 0)}"
        for release in sorted(seen.keys() | logged.keys())
        if seen[release] != logged.get(release, 0)
    ]
