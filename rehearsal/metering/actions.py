"""The actions of the CloudWatch API that the rehearsal answers itself; dashboards and the rest are moto's.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rehearsal.metering.alarms import ALARM, NO_DATA, OK, Alarm, Verdict
from rehearsal.metering.expressions import Value
from rehearsal.metering.queries import Queries, Request, Window, invalid, points, returned
from rehearsal.metering.registry import Alarms
from rehearsal.metering.store import Store, dimension_set, is_statistic, sample_of
from rehearsal.refusals import Refused

INJECTABLE = "AWS/Billing"
MOST_POINTS = 100_800


class Actions:
    """Each public method is an action: it takes the region and the request, and gives what the response holds."""

    def __init__(self, store_of: Callable[[str], Store], alarms_of: Callable[[str], Alarms]) -> None:
        self._store_of = store_of
        self._alarms_of = alarms_of

    async def put_metric_data(self, region: str, asked: Request) -> Request:
        """Notes data; AWS keeps AWS/* to itself, of which only bills may be injected here."""
        namespace = asked["Namespace"]
        if namespace.startswith("AWS/") and namespace != INJECTABLE:
            raise Refused("InvalidParameterValue", f"The value {namespace} for parameter Namespace is invalid.")
        fresh = []
        for datum in asked["MetricData"]:
            if not any(datum.get(name) is not None for name in ("Value", "Values", "StatisticValues")):
                raise Refused("MissingParameter", "A metric datum needs Value, Values or StatisticValues")
            key = (namespace, datum["MetricName"], dimension_set(datum.get("Dimensions", [])))
            at = seconds(datum["Timestamp"]) if datum.get("Timestamp") else time.time()
            fresh.append((key, at, sample_of(datum), datum.get("Unit")))
        for key, at, sample, unit in fresh:
            self._store_of(region).add(key, at, sample, unit)
        return {}

    async def get_metric_data(self, region: str, asked: Request) -> Request:
        """Values by query, in real seconds."""
        queries = Queries(asked["MetricDataQueries"], reduces=True)
        periods = {query["MetricStat"]["Period"] for query in queries.asked if query.get("MetricStat")}
        if len(periods) > 1 and any(query.get("Expression") for query in queries.asked):
            raise invalid("Expressions over metrics with different periods are not rehearsed")
        start, end = seconds(asked["StartTime"]), seconds(asked["EndTime"])
        store = self._store_of(region)
        values = queries.compute(lambda stat: points(store, stat, aligned(start, end, stat["Period"])))
        results = [
            _result(
                query,
                values[query["Id"]],
                aligned(
                    start, end, query["MetricStat"]["Period"] if query.get("MetricStat") else min(periods, default=60)
                ),
                asked.get("ScanBy") == "TimestampAscending",
            )
            for query in queries.asked
            if query["Id"] in returned(queries)
        ]
        return {"MetricDataResults": results, "Messages": []}

    async def get_metric_statistics(self, region: str, asked: Request) -> Request:
        """Statistics of one metric, in real seconds."""
        plain, extended = asked.get("Statistics") or [], asked.get("ExtendedStatistics") or []
        if not plain and not extended:
            raise Refused("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
        for name in (*plain, *extended):
            if not is_statistic(name):
                raise invalid(f"The statistic '{name}' is not rehearsed")
        window = aligned(seconds(asked["StartTime"]), seconds(asked["EndTime"]), int(asked["Period"]))
        store = self._store_of(region)
        metric = {key: asked[key] for key in ("Namespace", "MetricName", "Dimensions") if asked.get(key)}
        found = {
            name: points(store, {"Metric": metric, "Stat": name, "Unit": asked.get("Unit")}, window)
            for name in (*plain, *extended)
        }
        unit = store.get(metric["Namespace"], metric["MetricName"], metric.get("Dimensions", [])).unit or "None"
        shown = []
        for at, start in enumerate(window.starts()):
            given = {name: values[at] for name, values in found.items() if values[at] is not None}
            if given:
                point: Request = {"Timestamp": moment(start), "Unit": unit}
                point |= {name: value for name, value in given.items() if name in plain}
                if extended:
                    point["ExtendedStatistics"] = {name: value for name, value in given.items() if name in extended}
                shown.append(point)
        return {"Label": asked["MetricName"], "Datapoints": shown}

    async def list_metrics(self, region: str, asked: Request) -> Request:
        """The metrics that have data."""
        wanted = asked.get("Dimensions", [])
        shown = [
            {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in sorted(dimensions)],
            }
            for namespace, name, dimensions in self._store_of(region).keys()  # noqa: SIM118 - not a dict
            if asked.get("Namespace") in (None, namespace)
            and asked.get("MetricName") in (None, name)
            and _matches(dict(dimensions), wanted)
        ]
        return {"Metrics": shown}

    async def put_metric_alarm(self, region: str, asked: Request) -> Request:
        """A new or changed alarm."""
        self._alarms_of(region).put(asked)
        return {}

    async def put_composite_alarm(self, region: str, asked: Request) -> Request:
        """Refused."""
        raise invalid("Composite alarms are not rehearsed")

    async def describe_alarms(self, region: str, asked: Request) -> Request:
        """The alarms that meet every filter."""
        if "MetricAlarm" not in asked.get("AlarmTypes", ["MetricAlarm"]):
            return {"MetricAlarms": [], "CompositeAlarms": []}
        found = [
            alarm.description
            for name, alarm in sorted(self._alarms_of(region).by_name.items())
            if (not asked.get("AlarmNames") or name in asked["AlarmNames"])
            and name.startswith(asked.get("AlarmNamePrefix") or "")
            and asked.get("StateValue") in (None, alarm.state)
            and _has_action(alarm, asked.get("ActionPrefix"))
        ]
        start = int(asked.get("NextToken") or 0)
        end = start + int(asked.get("MaxRecords") or 100)
        answer: Request = {"MetricAlarms": found[start:end], "CompositeAlarms": []}
        return answer | {"NextToken": str(end)} if end < len(found) else answer

    async def describe_alarms_for_metric(self, region: str, asked: Request) -> Request:
        """The alarms on one metric."""
        wanted = dimension_set(asked.get("Dimensions", []))
        found = [
            alarm.description
            for alarm in self._alarms_of(region).by_name.values()
            if (alarm.description.get("Namespace"), alarm.description.get("MetricName"))
            == (asked["Namespace"], asked["MetricName"])
            and dimension_set(alarm.description.get("Dimensions", [])) == wanted
        ]
        return {"MetricAlarms": found}

    async def describe_alarm_history(self, region: str, asked: Request) -> Request:
        """What happened to alarms, newest first unless asked otherwise."""
        found = [
            item
            for item in self._alarms_of(region).history
            if asked.get("AlarmName") in (None, item["AlarmName"])
            and asked.get("HistoryItemType") in (None, item["HistoryItemType"])
            and (not asked.get("StartDate") or item["Timestamp"].timestamp() >= seconds(asked["StartDate"]))
            and (not asked.get("EndDate") or item["Timestamp"].timestamp() <= seconds(asked["EndDate"]))
        ]
        if asked.get("ScanBy") != "TimestampAscending":
            found.reverse()
        return {"AlarmHistoryItems": found[: int(asked.get("MaxRecords") or 100)]}

    async def set_alarm_state(self, region: str, asked: Request) -> Request:
        """Another state until the next evaluation, with its actions."""
        if asked["StateValue"] not in (OK, ALARM, NO_DATA):
            raise invalid(f"StateValue must be one of {OK}, {ALARM}, {NO_DATA}")
        if asked.get("StateReasonData"):
            try:
                json.loads(asked["StateReasonData"])
            except ValueError:
                raise Refused("InvalidFormat", "StateReasonData must be JSON") from None
        alarms = self._alarms_of(region)
        alarm = _known(alarms, asked["AlarmName"])
        alarms.move(alarm, Verdict(asked["StateValue"], asked["StateReason"], []), asked.get("StateReasonData"))
        return {}

    async def delete_alarms(self, region: str, asked: Request) -> Request:
        """All of them, or none and an error."""
        alarms = self._alarms_of(region)
        for name in asked["AlarmNames"]:
            _known(alarms, name)
        alarms.delete(asked["AlarmNames"])
        return {}

    async def enable_alarm_actions(self, region: str, asked: Request) -> Request:
        """Changes of state act from now on."""
        return self._switch(region, asked, True)

    async def disable_alarm_actions(self, region: str, asked: Request) -> Request:
        """Changes of state do nothing from now on."""
        return self._switch(region, asked, False)

    def _switch(self, region: str, asked: Request, enabled: bool) -> Request:
        for name in asked["AlarmNames"]:
            if alarm := self._alarms_of(region).by_name.get(name):
                alarm.description = alarm.description | {"ActionsEnabled": enabled}
        return {}

    async def list_tags_for_resource(self, region: str, asked: Request) -> Request:
        """An alarm's tags."""
        return {"Tags": [{"Key": key, "Value": value} for key, value in self._tags(region, asked).items()]}

    async def tag_resource(self, region: str, asked: Request) -> Request:
        """More tags for an alarm."""
        self._tags(region, asked).update({tag["Key"]: tag["Value"] for tag in asked["Tags"]})
        return {}

    async def untag_resource(self, region: str, asked: Request) -> Request:
        """Fewer tags for an alarm."""
        for key in asked["TagKeys"]:
            self._tags(region, asked).pop(key, None)
        return {}

    def _tags(self, region: str, asked: Request) -> dict[str, str]:
        for alarm in self._alarms_of(region).by_name.values():
            if alarm.description["AlarmArn"] == asked["ResourceARN"]:
                return alarm.tags
        raise Refused("ResourceNotFoundException", f"No alarm has the ARN {asked['ResourceARN']}")


def _result(query: Request, value: Value, window: Window, ascending: bool) -> Request:
    """One query's values as GetMetricData gives them: without missing points, newest first unless asked otherwise."""
    if isinstance(value, tuple):
        raise invalid(f"Query '{query['Id']}' gives several time series: not rehearsed")
    series = [value] * window.count if isinstance(value, float) else value
    pairs = [(at, one) for at, one in zip(window.starts(), series, strict=True) if one is not None]
    if not ascending:
        pairs.reverse()
    name = query["MetricStat"]["Metric"]["MetricName"] if query.get("MetricStat") else query["Id"]
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or name,
        "Timestamps": [moment(at) for at, _ in pairs],
        "Values": [one for _, one in pairs],
        "StatusCode": "Complete",
    }


def _matches(dimensions: dict[str, str], wanted: list[Request]) -> bool:
    """Whether a metric has every dimension asked for, with the value where one is given."""
    return all(one["Name"] in dimensions and one.get("Value") in (None, dimensions[one["Name"]]) for one in wanted)


def _known(alarms: Alarms, name: str) -> Alarm:
    if name not in alarms.by_name:
        raise Refused("ResourceNotFound", f"Alarm '{name}' does not exist")
    return alarms.by_name[name]


def _has_action(alarm: Alarm, prefix: str | None) -> bool:
    shown = alarm.description
    actions = [*shown["AlarmActions"], *shown["OKActions"], *shown["InsufficientDataActions"]]
    return prefix is None or any(action.startswith(prefix) for action in actions)


def aligned(start: float, end: float, period_s: float) -> Window:
    """The periods from `start` to `end`, beginning at a multiple of the period."""
    if start >= end:
        raise invalid("The parameter StartTime must be less than the parameter EndTime.")
    first = math.floor(start / period_s) * period_s
    count = math.ceil((end - first) / period_s)
    if count > MOST_POINTS:
        raise invalid(f"{count} periods are more than the {MOST_POINTS} that one call may ask for")
    return Window(first, period_s, count)


def seconds(moment_or_number: Any) -> float:
    """A time of a request as seconds since 1970; protocols differ in how they give it."""
    if isinstance(moment_or_number, str):
        moment_or_number = datetime.fromisoformat(moment_or_number.replace("Z", "+00:00"))
    if isinstance(moment_or_number, datetime):
        aware = moment_or_number if moment_or_number.tzinfo else moment_or_number.replace(tzinfo=UTC)
        return aware.timestamp()
    return float(moment_or_number)


def moment(at: float) -> datetime:
    """Seconds since 1970 as a time."""
    return datetime.fromtimestamp(at, UTC)
