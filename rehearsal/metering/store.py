"""Metrics: raw values in time, and statistics over them."""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Dimensions = frozenset[tuple[str, str]]
Key = tuple[str, str, Dimensions]

KEPT_S = 3 * 3600.0
PLAIN = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")


@dataclass(slots=True)
class Sample:
    """What came together at one moment. Without `values` (a StatisticSet) percentiles are unknown, as on AWS."""

    count: float
    total: float
    low: float
    high: float
    values: array[float] | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        """A sample of raw values."""
        raw = array("d", values)
        return cls(len(raw), math.fsum(raw), min(raw), max(raw), raw)


@dataclass
class Series:
    """One metric with one set of dimensions; `times` ascend."""

    unit: str | None = None
    times: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def add(self, at: float, sample: Sample) -> None:
        """Note a sample; almost always it is the newest."""
        place = bisect_right(self.times, at)
        self.times.insert(place, at)
        self.samples.insert(place, sample)

    def between(self, start: float, end: float) -> list[Sample]:
        """The samples from `start` on, before `end`."""
        return self.samples[bisect_left(self.times, start) : bisect_left(self.times, end)]

    def forget(self, before: float) -> None:
        """Drop what is older."""
        old = bisect_left(self.times, before)
        del self.times[:old], self.samples[:old]


class Store:
    """The metrics of one region."""

    def __init__(self) -> None:
        self._series: dict[Key, Series] = {}

    def add(self, key: Key, at: float, sample: Sample, unit: str | None) -> None:
        """Note a sample of a metric."""
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(unit)
        series.add(at, sample)

    def get(self, namespace: str, name: str, dimensions: list[dict[str, str]]) -> Series:
        """The metric with exactly these dimensions, empty when it has never been reported."""
        return self._series.get((namespace, name, dimension_set(dimensions)), Series())

    def keys(self) -> Iterator[Key]:
        """Every metric that has data."""
        return (key for key, series in self._series.items() if series.times)

    def forget(self, now: float) -> None:
        """Drop what nobody will ask for any more."""
        for series in self._series.values():
            series.forget(now - KEPT_S)


def dimension_set(dimensions: list[dict[str, str]]) -> Dimensions:
    """Dimensions as the API gives them, without their order."""
    return frozenset((one["Name"], one["Value"]) for one in dimensions)


def is_statistic(name: str) -> bool:
    """Whether the statistic is one that is rehearsed."""
    return name in PLAIN or PERCENTILE.fullmatch(name) is not None


def statistic(samples: list[Sample], name: str) -> float | None:
    """One statistic over samples, None without data.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
    """
    if not samples:
        return None
    if name == "Minimum":
        return min(sample.low for sample in samples)
    if name == "Maximum":
        return max(sample.high for sample in samples)
    if name in PLAIN:
        count = sum(sample.count for sample in samples)
        total = math.fsum(sample.total for sample in samples)
        return {"SampleCount": count, "Sum": total, "Average": total / count if count else None}[name]
    return percentile([value for sample in samples for value in sample.values or ()], float(name[1:]))


def percentile(values: list[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of the values do not exceed."""
    if not values:
        return None
    values.sort()
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


def sample_of(datum: dict[str, Any]) -> Sample:
    """The sample that one MetricDatum of PutMetricData holds."""
    if datum.get("StatisticValues"):
        given = datum["StatisticValues"]
        return Sample(given["SampleCount"], given["Sum"], given["Minimum"], given["Maximum"])
    if datum.get("Values"):
        counts = datum.get("Counts") or [1] * len(datum["Values"])
        return Sample.of(value for value, count in zip(datum["Values"], counts, strict=True) for _ in range(int(count)))
    return Sample.of([datum["Value"]])
