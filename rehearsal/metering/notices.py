"""What an alarm does when its state changes: a message to SNS in the form that CloudWatch sends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from botocore.exceptions import ClientError
from botocore.loaders import Loader

from rehearsal.context import Context
from rehearsal.metering.alarms import Alarm

ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}


@cache
def region_name(region: str) -> str:
    """A region's name as messages say it: EU (Ireland)."""
    partitions = Loader().load_data("endpoints")["partitions"]
    names = {code: about["description"] for one in partitions for code, about in one["regions"].items()}
    return str(names.get(region, region)).replace("Europe (", "EU (")


def message(alarm: Alarm, old: str, account: str, region: str) -> str:
    """The JSON that subscribers of the topic get.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """
    shown = alarm.description
    return json.dumps(
        {
            "AlarmName": shown["AlarmName"],
            "AlarmDescription": shown.get("AlarmDescription"),
            "AWSAccountId": account,
            "AlarmConfigurationUpdatedTimestamp": _stamp(shown["AlarmConfigurationUpdatedTimestamp"]),
            "NewStateValue": shown["StateValue"],
            "NewStateReason": shown["StateReason"],
            "StateChangeTime": _stamp(shown["StateUpdatedTimestamp"]),
            "Region": region_name(region),
            "AlarmArn": shown["AlarmArn"],
            "OldStateValue": old,
            "OKActions": shown["OKActions"],
            "AlarmActions": shown["AlarmActions"],
            "InsufficientDataActions": shown["InsufficientDataActions"],
            "Trigger": _trigger(shown),
        }
    )


def _trigger(shown: dict[str, Any]) -> dict[str, Any]:
    trigger = {
        "Period": shown.get("Period"),
        "EvaluationPeriods": shown["EvaluationPeriods"],
        "DatapointsToAlarm": shown["DatapointsToAlarm"],
        "ComparisonOperator": shown["ComparisonOperator"],
        "Threshold": shown["Threshold"],
        "TreatMissingData": shown["TreatMissingData"],
        "EvaluateLowSampleCountPercentile": shown.get("EvaluateLowSampleCountPercentile", ""),
    }
    if shown.get("Metrics"):
        return trigger | {"Metrics": shown["Metrics"]}
    kind = "Statistic" if shown.get("Statistic") else "ExtendedStatistic"
    return trigger | {
        "MetricName": shown["MetricName"],
        "Namespace": shown["Namespace"],
        "StatisticType": kind,
        "Statistic": (shown.get("Statistic") or shown["ExtendedStatistic"]).upper(),
        "Unit": shown.get("Unit"),
        "Dimensions": [{"value": one["Value"], "name": one["Name"]} for one in shown.get("Dimensions", [])],
    }


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


@dataclass(frozen=True)
class Notice:
    """What a change of state has to tell, and to which actions."""

    subject: str
    text: str
    actions: list[str]


def notice(alarm: Alarm, old: str, account: str, region: str) -> Notice:
    """What the alarm's new state asks for."""
    shown = alarm.description
    actions = shown[ACTIONS[alarm.state]] if shown["ActionsEnabled"] else []
    subject = f'{alarm.state}: "{alarm.name}" in {region_name(region)}'[:100]
    return Notice(subject, message(alarm, old, account, region), list(actions))


async def publish(context: Context, action: str, told: Notice) -> str | None:
    """Carry out one action; gives what went wrong, or None."""
    parts = action.split(":")
    if parts[2:3] != ["sns"]:
        return "only actions of SNS are rehearsed"
    sns = context.client("sns", parts[3])
    try:
        await asyncio.to_thread(sns.publish, TopicArn=action, Subject=told.subject, Message=told.text)
    except ClientError as error:
        return str(error)
    return None
