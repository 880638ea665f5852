"""Alarms: what they are, and the state that data puts them in.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rehearsal.metering.expressions import Points
from rehearsal.metering.queries import Queries, Request, Window, invalid, points, returned
from rehearsal.metering.store import Store

OK, ALARM, NO_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
# More points than EvaluationPeriods are looked at, so that late or sparse data is not taken for missing. AWS's tables
# show two more: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
EXTRA_POINTS = 2
COMPARE: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
NOT_REHEARSED = (
    "ThresholdMetricId",
    "EvaluationWindow",
    "EvaluationCriteria",
    "EvaluationInterval",
    "WarmUpConfiguration",
    "ActionConfiguration",
)


@dataclass
class Alarm:
    """`description` is what DescribeAlarms shows; `slot` is the last moment it was evaluated for."""

    description: dict[str, Any]
    queries: Queries
    tags: dict[str, str]
    slot: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.description["AlarmName"])

    @property
    def state(self) -> str:
        """OK, ALARM or INSUFFICIENT_DATA."""
        return str(self.description["StateValue"])

    @property
    def period_s(self) -> int:
        """The length of its periods in AWS's seconds."""
        stats = [query["MetricStat"]["Period"] for query in self.queries.asked if query.get("MetricStat")]
        return int(max(stats))


def queries_of(asked: Request) -> list[Request]:
    """An alarm's metric queries; the short form is one query that returns its data."""
    if asked.get("Metrics"):
        return list(asked["Metrics"])
    if not asked.get("MetricName") or not asked.get("Namespace") or not asked.get("Period"):
        raise invalid("An alarm needs Metrics, or MetricName, Namespace, Period and a statistic")
    stat = asked.get("Statistic") or asked.get("ExtendedStatistic")
    if not stat or (asked.get("Statistic") and asked.get("ExtendedStatistic")):
        raise invalid("Exactly one of Statistic and ExtendedStatistic must be specified")
    metric = {
        "Namespace": asked["Namespace"],
        "MetricName": asked["MetricName"],
        "Dimensions": asked.get("Dimensions", []),
    }
    return [{"Id": "m1", "MetricStat": {"Metric": metric, "Period": asked["Period"], "Stat": stat}, "ReturnData": True}]


def check(asked: Request) -> Queries:
    """The alarm's queries, or the error that says what AWS or the rehearsal does not take.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    """
    for name in NOT_REHEARSED:
        if asked.get(name):
            raise invalid(f"{name} of an alarm is not rehearsed")
    if asked.get("Metrics") and any(asked.get(name) for name in ("MetricName", "Namespace", "Period", "Statistic")):
        raise invalid("Metrics cannot be given together with MetricName, Namespace, Period or Statistic")
    if asked.get("ComparisonOperator") not in COMPARE:
        raise invalid(
            f"The comparison '{asked.get('ComparisonOperator')}' is not rehearsed; there are {', '.join(COMPARE)}"
        )
    if asked.get("Threshold") is None:
        raise invalid("An alarm needs a Threshold")
    if asked.get("TreatMissingData", "missing") not in TREATMENTS:
        raise invalid(f"TreatMissingData must be one of {', '.join(TREATMENTS)}")
    if int(asked.get("DatapointsToAlarm") or asked["EvaluationPeriods"]) > int(asked["EvaluationPeriods"]):
        raise invalid("DatapointsToAlarm must not exceed EvaluationPeriods")
    queries = Queries(queries_of(asked), reduces=False)
    if len(returned(queries)) != 1:
        raise invalid("Exactly one of the alarm's metric queries must return data")
    periods = {query["MetricStat"]["Period"] for query in queries.asked if query.get("MetricStat")}
    if len(periods) != 1 or not all(period in (10, 20, 30) or period % 60 == 0 for period in periods):
        raise invalid("An alarm's metrics need one and the same period: 10, 20, 30 or a multiple of 60 seconds")
    if not isinstance(queries.compute(lambda stat: [None])[returned(queries)[0]], list):
        raise invalid("The expression of an alarm must give a single time series")
    return queries


@dataclass(frozen=True)
class Verdict:
    """What an evaluation says, and the points it rests on, newest last."""

    state: str
    reason: str
    recent: list[float]


def evaluate(alarm: Alarm, store: Store, end: float, step_s: float) -> Verdict:
    """The alarm's state at `end`, with periods of `step_s` real seconds."""
    shown = alarm.description
    periods, wanted = int(shown["EvaluationPeriods"]), int(shown["DatapointsToAlarm"])
    count = periods + EXTRA_POINTS
    window = Window(end - count * step_s, step_s, count)
    values = alarm.queries.compute(lambda stat: points(store, stat, window))[returned(alarm.queries)[0]]
    assert isinstance(values, list)
    beyond, words = COMPARE[shown["ComparisonOperator"]]
    breaching = [None if value is None else beyond(value, shown["Threshold"]) for value in values]
    state = judge(breaching, periods, wanted, shown["TreatMissingData"], alarm.state)
    recent = [value for value in values if value is not None][-periods:]
    return Verdict(state, _reason(state, values, recent, window, shown, words), recent)


def judge(breaching: list[bool | None], periods: int, wanted: int, missing: str, current: str) -> str:
    """The state by AWS's rules for missing data; `breaching` is oldest first, None where there is no data.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    real = [point for point in breaching if point is not None][-periods:]
    lacking = periods - len(real)
    over = sum(real)
    if over >= wanted:
        return ALARM
    if lacking == 0 or missing == "notBreaching":
        return OK
    if missing == "breaching":
        return ALARM if over + lacking >= wanted else OK
    if not real:
        return current if missing == "ignore" else NO_DATA
    if not all(real):
        return OK
    # Only breaching points, too few of them. An old one followed by nothing better is an alarm, a new one not yet.
    age = len(breaching) - breaching.index(True)
    return ALARM if missing == "missing" and age >= wanted else current


def _reason(state: str, values: Points, recent: list[float], window: Window, shown: dict[str, Any], words: str) -> str:
    """The sentence in the form CloudWatch writes it."""
    threshold = shown["Threshold"]
    lacking = int(shown["EvaluationPeriods"]) - len(recent)
    if not recent:
        missing = f"no datapoints were received for {lacking} period{'s' * (lacking != 1)}"
        treated = {"breaching": "[Breaching]", "notBreaching": "[NonBreaching]"}.get(shown["TreatMissingData"])
        if state == NO_DATA or treated is None:
            return f"Insufficient Data: {lacking} datapoint{'s were' if lacking != 1 else ' was'} unknown."
        filled = f"{lacking} missing datapoint{'s were' if lacking != 1 else ' was'} treated as {treated}"
        return f"Threshold Crossed: {missing} and {filled}."
    dated = [
        f"{value} ({datetime.fromtimestamp(start, UTC):%d/%m/%y %H:%M:%S})"
        for start, value in zip(window.starts(), values, strict=True)
        if value is not None
    ]
    listed = ", ".join(reversed(dated[-len(recent) :]))
    over = [
        value for value in recent if value is not None and COMPARE[shown["ComparisonOperator"]][0](value, threshold)
    ]
    counted = len(over) if state == ALARM else len(recent) - len(over)
    verb = ("was" if counted == 1 else "were") + ("" if state == ALARM else " not")
    least = int(shown["DatapointsToAlarm"])
    direction = "OK -> ALARM" if state == ALARM else "ALARM -> OK"
    return (
        f"Threshold Crossed: {counted} out of the last {len(recent)} datapoints [{listed}] {verb} {words}"
        f" the threshold ({threshold}) (minimum {least} datapoint{'s' * (least != 1)} for {direction} transition)."
    )


def slot_at(now: float, grid_s: float) -> int:
    """The number of the last moment on the grid that is over."""
    return math.floor(now / grid_s)
