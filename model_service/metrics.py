"""What /metrics tells: Triton's counters by their own names, histograms of latency and batch size, the process itself.

Names: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
Triton has no latency histogram, so those have names of ours. All of it is counted by the event loop alone.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from model_service.errors import RequestRefused

if TYPE_CHECKING:
    from model_service.scheduling.job import Job

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ENDPOINTS = ("infer", "predict", "grpc", "stream")
REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
COUNTERS = {
    "nv_inference_request_success": "Inference requests that were answered",
    "nv_inference_count": "Rows inferred",
    "nv_inference_exec_count": "Runs of the model",
    "nv_inference_request_duration_us": "Time from a request's body to its answer",
    "nv_inference_queue_duration_us": "Time that requests waited for a run",
    "nv_inference_compute_input_duration_us": "Time to read requests",
    "nv_inference_compute_infer_duration_us": "Time in ONNX Runtime",
    "nv_inference_compute_output_duration_us": "Time to write answers",
}
US_PER_S = 1_000_000


class Buckets:
    """A histogram: how many values were at most each of `bounds`, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """The counts as Prometheus wants them, each bucket with all that are smaller."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class ModelStats:
    """What is counted of one version of one model. `queue` says what waits now: requests, and seconds of work.

    `runs_on` names the device, its provider and their versions.
    """

    def __init__(self, model: str, version: str) -> None:
        self.labels = {"model": model, "version": version}
        self._successes = self._rows = self._runs = 0
        self._total_s = self._queued_s = self._read_s = self._compute_s = self._write_s = 0.0
        self.failures = dict.fromkeys(REASONS, 0)
        self.latency = {endpoint: Buckets(LATENCY_BUCKETS_S) for endpoint in ENDPOINTS}
        self.batch_rows = Buckets(BATCH_BUCKETS)
        self.last_inference_ms = 0
        self.runs_on: dict[str, str] = {}
        self.stream_sessions = 0
        self.queue: Callable[[], tuple[int, float]] = lambda: (0, 0.0)

    @property
    def totals(self) -> dict[str, int]:
        """The value of each of COUNTERS."""
        seconds = (self._total_s, self._queued_s, self._read_s, self._compute_s, self._write_s)
        counted = (self._successes, self._rows, self._runs, *(int(each * US_PER_S) for each in seconds))
        return dict(zip(COUNTERS, counted, strict=True))

    def finished(self, job: Job) -> None:
        """Count one job that has its answer or its error."""
        if job.error is not None:
            self.failed(job.error.status if isinstance(job.error, RequestRefused) else 500)
            return
        total_s = time.monotonic() - job.submitted
        self._successes += 1
        self._total_s += total_s
        self._queued_s += job.started - job.submitted
        self._read_s += job.read_s
        self._compute_s += job.compute_s
        self._write_s += job.write_s
        self.latency[job.endpoint].observe(total_s)

    def ran(self, rows: int, compute_s: float) -> None:
        """Count one run of the model."""
        self._rows += rows
        self._runs += 1
        self.batch_rows.observe(rows)
        self.last_inference_ms = int(time.time() * 1000)

    def failed(self, status: int) -> None:
        """Count one request that was answered with `status`, by Triton's reasons."""
        if status in (503, 504):
            self.failures["REJECTED"] += 1
        else:
            self.failures["BACKEND" if status >= 500 else "OTHER"] += 1

    def canceled(self) -> None:
        """Count one request whose caller went before it was answered."""
        self.failures["CANCELED"] += 1


class Metrics:
    """Every model's counts and the process's own, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.models: list[ModelStats] = []
        self.failed_loads: Counter[str] = Counter()
        self.registry.register(_ModelCollector(self.models, self.failed_loads))
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


class _ModelCollector(Collector):
    """Counters without the `_total` that prometheus_client appends to its own; hence typed as untyped."""

    def __init__(self, models: list[ModelStats], failed_loads: Counter[str]) -> None:
        self._models = models
        self._failed_loads = failed_loads

    def collect(self) -> Iterator[Metric]:
        totals = [(stats.labels, stats.totals) for stats in self._models]
        for name, text in COUNTERS.items():
            metric = Metric(name, text, "unknown")
            for labels, values in totals:
                metric.add_sample(name, labels, values[name])
            yield metric
        yield self._devices()
        yield self._failures()
        yield from self._queues()
        yield self._latencies()
        yield self._batches()
        loads = CounterMetricFamily("model_service_failed_loads", "Models that could not be loaded", labels=("model",))
        for name, count in self._failed_loads.items():
            loads.add_metric([name], count)
        yield loads

    def _devices(self) -> Metric:
        metric = Metric("model_service_model_device", "1; the labels say what runs the model", "gauge")
        for stats in self._models:
            metric.add_sample(metric.name, stats.labels | stats.runs_on, 1)
        return metric

    def _failures(self) -> Metric:
        name = "nv_inference_request_failure"
        metric = Metric(name, "Inference requests that were not answered, by reason", "unknown")
        for stats in self._models:
            for reason, count in stats.failures.items():
                metric.add_sample(name, stats.labels | {"reason": reason}, count)
        return metric

    def _queues(self) -> Iterator[Metric]:
        labels = ("model", "version")
        pending = GaugeMetricFamily(
            "nv_inference_pending_request_count", "Requests that wait or run now", labels=labels
        )
        queued = GaugeMetricFamily(
            "model_service_queued_work_seconds", "Time until a request of now would begin to run", labels=labels
        )
        streams = GaugeMetricFamily("model_service_stream_sessions", "Streams that are open now", labels=labels)
        for stats in self._models:
            requests, seconds = stats.queue()
            pending.add_metric(list(stats.labels.values()), requests)
            queued.add_metric(list(stats.labels.values()), seconds)
            streams.add_metric(list(stats.labels.values()), stats.stream_sessions)
        yield from (pending, queued, streams)

    def _latencies(self) -> Metric:
        metric = HistogramMetricFamily(
            "model_service_request_duration_seconds",
            "Time from a request's body to its answer",
            labels=("model", "version", "endpoint"),
        )
        for stats in self._models:
            for endpoint, buckets in stats.latency.items():
                metric.add_metric([*stats.labels.values(), endpoint], buckets.cumulative(), buckets.sum)
        return metric

    def _batches(self) -> Metric:
        metric = HistogramMetricFamily(
            "model_service_batch_rows", "Rows in one run of the model", labels=("model", "version")
        )
        for stats in self._models:
            metric.add_metric(list(stats.labels.values()), stats.batch_rows.cumulative(), stats.batch_rows.sum)
        return metric
