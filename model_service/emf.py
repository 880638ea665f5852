"""The signals to scale by, as log lines that CloudWatch turns into metrics: its embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
A service whose tasks have work waiting needs more tasks, whatever their CPUs do; hence the seconds of queued work. Each
metric costs what a custom metric costs, so there are few, and none unless EMF_NAMESPACE is given.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson

from model_service.metrics import ModelStats
from model_service.models import Models

METRICS = (("PendingRequests", "Count"), ("QueuedWork", "Seconds"), ("RejectedRequests", "Count"))


async def tell_cloudwatch(models: Models, namespace: str, interval_s: float) -> None:
    """Write a line for each model every `interval_s` seconds, for ever."""
    rejected: dict[ModelStats, int] = {}
    while True:
        await asyncio.sleep(interval_s)
        lines, rejected = emf_lines([served.stats for served in models.all], namespace, rejected)
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


def emf_lines(
    all_stats: list[ModelStats], namespace: str, rejected: dict[ModelStats, int]
) -> tuple[bytes, dict[ModelStats, int]]:
    """A line for each of `all_stats`, and what has been rejected of each until now; `rejected` is that of the time
    before."""
    now = {stats: stats.failures["REJECTED"] for stats in all_stats}
    return b"".join(emf_line(stats, namespace, count - rejected.get(stats, 0)) for stats, count in now.items()), now


def emf_line(stats: ModelStats, namespace: str, rejected: int) -> bytes:
    """One line: what waits now, and how many requests were rejected since the line before."""
    pending, queued_s = stats.queue()
    described = [{"Name": name, "Unit": unit} for name, unit in METRICS]
    directive = {"Namespace": namespace, "Dimensions": [["Model"]], "Metrics": described}
    line = {
        "_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]},
        "Model": stats.labels["model"],
        "version": stats.labels["version"],
        "PendingRequests": pending,
        "QueuedWork": round(queued_s, 3),
        "RejectedRequests": rejected,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
