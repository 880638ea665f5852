"""What /metrics tells: Triton's counters by their own names, a latency histogram, and the process itself.

Names: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
Triton has no latency histogram, so that one has a name of ours. All of it is written by the event loop alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COUNTERS = {
    "nv_inference_request_success": "Inference requests answered with 200",
    "nv_inference_request_failure": "Inference requests answered with an error, by reason",
    "nv_inference_count": "Rows inferred",
    "nv_inference_exec_count": "Runs of the model",
    "nv_inference_request_duration_us": "Time from a request's body to its answer",
    "nv_inference_queue_duration_us": "Time that requests waited for a worker thread",
    "nv_inference_compute_infer_duration_us": "Time in ONNX Runtime",
}
US_PER_S = 1_000_000


def failure_reason(status: int) -> str:
    """Triton's reason for a failed request: REJECTED (not taken), BACKEND (our fault) or OTHER (the caller's)."""
    if status == 503:
        return "REJECTED"
    return "BACKEND" if status >= 500 else "OTHER"


class Metrics:
    """Counts the requests of one model."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = _TritonCounters()
        self.registry.register(self._counters)
        ProcessCollector(registry=self.registry)
        labels = ("model", "version")
        self.pending = Gauge(
            "nv_inference_pending_request_count", "Requests being answered", labels, registry=self.registry
        )
        self._latency = Histogram(
            "model_service_request_duration_seconds",
            "Time from a request's body to its answer",
            (*labels, "endpoint"),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )

    def succeeded(
        self, model: str, version: str, endpoint: str, *, rows: int, total_s: float, queue_s: float, compute_s: float
    ) -> None:
        """Count one answered request."""
        add = self._counters.add
        labels = (("model", model), ("version", version))
        add("nv_inference_request_success", labels, 1)
        add("nv_inference_count", labels, rows)
        add("nv_inference_exec_count", labels, 1)
        add("nv_inference_request_duration_us", labels, int(total_s * US_PER_S))
        add("nv_inference_queue_duration_us", labels, int(queue_s * US_PER_S))
        add("nv_inference_compute_infer_duration_us", labels, int(compute_s * US_PER_S))
        self._latency.labels(model, version, endpoint).observe(total_s)

    def failed(self, model: str, version: str, status: int) -> None:
        """Count one request that was answered with `status`."""
        labels = (("model", model), ("version", version), ("reason", failure_reason(status)))
        self._counters.add("nv_inference_request_failure", labels, 1)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


class _TritonCounters(Collector):
    """Counters without the `_total` that prometheus_client appends to its own; hence typed as untyped."""

    def __init__(self) -> None:
        self._values: dict[str, Counter[tuple[tuple[str, str], ...]]] = {name: Counter() for name in COUNTERS}

    def add(self, name: str, labels: tuple[tuple[str, str], ...], amount: int) -> None:
        self._values[name][labels] += amount

    def collect(self) -> Iterator[Metric]:
        for name, values in self._values.items():
            metric = Metric(name, COUNTERS[name], "unknown")
            for labels, value in values.items():
                metric.add_sample(name, dict(labels), value)
            yield metric
