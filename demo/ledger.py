"""What the users saw, counted, and held against the load balancer's own log."""

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


def summary(requests: list[Request], bad: str = "") -> dict[str, Any]:
    """Counts by release, latency percentiles, and a timeline in seconds since the first request.

    `failed` leaves out the answers of the release `bad`, which is known to fail in production: they are `suffered`.
    """
    failures = [request.failed for request in requests if request.failed and request.release != bad]
    p50, p95, p99 = _percentiles(requests, 50, 95, 99)
    return {
        "requests": len(requests),
        "failed": len(failures),
        "failures": dict(Counter(failures).most_common(5)),
        "suffered": count(requests, bad)[1] if bad else 0,
        "by_release": dict(Counter(request.release for request in requests)),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "timeline": timeline(requests),
    }


def count(
    requests: list[Request], release: str, since: float = float("-inf"), until: float = float("inf")
) -> tuple[int, int]:
    """How many of the requests that were sent from `since` to `until` the release answered, and how many failed."""
    answered = [request for request in requests if request.release == release and since <= request.start < until]
    return len(answered), sum(bool(request.failed) for request in answered)


def timeline(requests: list[Request]) -> list[dict[str, Any]]:
    """Second by second: requests and latencies by release, failures, the median and the 99th percentile in ms."""
    if not requests:
        return []
    zero = requests[0].start
    seconds: dict[int, list[Request]] = {}
    for request in requests:
        seconds.setdefault(int(request.start - zero), []).append(request)
    return [_second(number, group) for number, group in sorted(seconds.items())]


def _second(number: int, group: list[Request]) -> dict[str, Any]:
    by_release = Counter(request.release for request in group)
    p50, p99 = _percentiles(group, 50, 99)
    latency = {
        name: _percentiles([request for request in group if request.release == name], 50, 99) for name in by_release
    }
    return {
        "second": number,
        "by_release": dict(by_release),
        "failed": sum(bool(request.failed) for request in group),
        "p50_ms": p50,
        "p99_ms": p99,
        "latency_ms": {name: {"p50": low, "p99": high} for name, (low, high) in latency.items()},
    }


def _percentiles(requests: list[Request], *wanted: int) -> list[float]:
    latencies = [request.latency_ms for request in requests] or [0.0]
    return [round(float(value), 2) for value in np.percentile(latencies, wanted)]


def against_log(requests: list[Request], logged: dict[str, int]) -> list[str]:
    """Where the counts by release of the users and of the load balancer's log differ, in words."""
    seen = Counter(request.release for request in requests)
    return [
        f"{release or '(none)'}: users counted {seen[release]}, the load balancer {logged.get(release, 0)}"
        for release in sorted(seen.keys() | logged.keys())
        if seen[release] != logged.get(release, 0)
    ]
