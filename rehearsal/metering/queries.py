"""MetricDataQueries: checked once, then computed over any window.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.metering.expressions import CannotEvaluate, Evaluate, Points, Scope, Value, parse
from rehearsal.metering.store import Store, is_statistic, statistic
from rehearsal.refusals import Refused

Request = dict[str, Any]


def invalid(message: str) -> Refused:
    """A ValidationError."""
    return Refused("ValidationError", message)


@dataclass(frozen=True)
class Window:
    """`count` periods of `step_s` seconds each, from `start` on."""

    start: float
    step_s: float
    count: int

    def starts(self) -> list[float]:
        """When each period begins."""
        return [self.start + at * self.step_s for at in range(self.count)]


class Queries:
    """Queries that refer to each other by id. Raises ValidationError when made from ones that are not rehearsed."""

    def __init__(self, queries: list[Request], reduces: bool) -> None:
        self.asked = queries
        self._reduces = reduces
        self._by_id = {query["Id"]: query for query in queries}
        if len(self._by_id) < len(queries):
            raise invalid("The ids of the metric queries must be unique")
        self._parsed: dict[str, Evaluate] = {}
        for query in queries:
            self._check(query)
        self.compute(lambda stat: [None])

    def _check(self, query: Request) -> None:
        if query.get("AccountId"):
            raise invalid("Metrics of other accounts are not rehearsed")
        if query.get("Expression"):
            try:
                self._parsed[query["Id"]] = parse(query["Expression"])
            except CannotEvaluate as unknown:
                raise invalid(f"Not rehearsed in expression '{query['Expression']}': {unknown}") from unknown
        elif not query.get("MetricStat"):
            raise invalid(f"Query '{query['Id']}' needs a MetricStat or an Expression")
        elif not is_statistic(query["MetricStat"]["Stat"]):
            raise invalid(f"The statistic '{query['MetricStat']['Stat']}' is not rehearsed")

    def compute(self, points_of: Callable[[Request], Points]) -> dict[str, Value]:
        """The value of every query by id, given the points of every MetricStat."""
        metrics = {
            name: points_of(query["MetricStat"]) for name, query in self._by_id.items() if query.get("MetricStat")
        }
        done: dict[str, Value] = dict(metrics)
        running: list[str] = []

        def look_up(name: str) -> Value:
            if name not in done:
                if name not in self._parsed:
                    raise CannotEvaluate(f"the id '{name}', which no query has")
                if name in running:
                    raise CannotEvaluate(f"the id '{name}', which refers to itself")
                running.append(name)
                done[name] = self._parsed[name](Scope(look_up, metrics, self._reduces))
                running.pop()
            return done[name]

        for name in self._parsed:
            try:
                look_up(name)
            except CannotEvaluate as unknown:
                raise invalid(
                    f"Not rehearsed in expression '{self._by_id[name]['Expression']}': {unknown}"
                ) from unknown
        return done


def returned(queries: Queries) -> list[str]:
    """The ids of the queries that return data; that is the default."""
    return [query["Id"] for query in queries.asked if query.get("ReturnData", True)]


def points(store: Store, stat: Request, window: Window) -> Points:
    """One statistic of one metric, period by period."""
    metric = stat["Metric"]
    series = store.get(metric["Namespace"], metric["MetricName"], metric.get("Dimensions", []))
    if stat.get("Unit") and series.unit not in (None, stat["Unit"]):
        return [None] * window.count
    return [statistic(series.between(start, start + window.step_s), stat["Stat"]) for start in window.starts()]
