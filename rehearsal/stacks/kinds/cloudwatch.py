"""AWS::CloudWatch: alarms and dashboards."""

from __future__ import annotations

import json
from typing import Any

from rehearsal.stacks.errors import ResourceFailed
from rehearsal.stacks.kind import Kind, Work, always, ignoring_missing, tag_changes, words


def create_alarm(work: Work) -> None:
    name = work.get("AlarmName") or work.name(255)
    if work.call("cloudwatch", "describe_alarms", AlarmNames=[name])["MetricAlarms"]:
        raise ResourceFailed(f"{name} already exists", "AlreadyExists")
    work.send("cloudwatch", "put_metric_alarm", work.without("AlarmName"), AlarmName=name)
    work.made(name)


def update_alarm(work: Work) -> None:
    work.send("cloudwatch", "put_metric_alarm", work.without("AlarmName", "Tags"), AlarmName=work.physical_id)
    put, remove = tag_changes(work)
    arn = alarm_attributes(work)["Arn"]
    if put:
        work.call("cloudwatch", "tag_resource", ResourceARN=arn, Tags=put)
    if remove:
        work.call("cloudwatch", "untag_resource", ResourceARN=arn, TagKeys=remove)


def alarm_attributes(work: Work) -> dict[str, Any]:
    return {"Arn": f"arn:aws:cloudwatch:{work.region}:{work.account}:alarm:{work.physical_id}"}


def delete_alarm(work: Work) -> None:
    with ignoring_missing("ResourceNotFound"):
        work.call("cloudwatch", "delete_alarms", AlarmNames=[work.physical_id])


def create_dashboard(work: Work) -> None:
    work.made(work.get("DashboardName") or work.name(255))
    put_dashboard(work)


def put_dashboard(work: Work) -> None:
    body = work.get("DashboardBody")
    try:
        json.loads(body)
    except ValueError as error:
        raise ResourceFailed(
            f"The field DashboardBody must be a valid JSON object: {error}", "InvalidRequest"
        ) from error
    work.call("cloudwatch", "put_dashboard", DashboardName=work.physical_id, DashboardBody=body)


def delete_dashboard(work: Work) -> None:
    with ignoring_missing("ResourceNotFound", "DashboardNotFoundError"):
        work.call("cloudwatch", "delete_dashboards", DashboardNames=[work.physical_id])


KINDS = (
    Kind(
        "AWS::CloudWatch::Alarm",
        words(
            "ActionsEnabled AlarmActions AlarmDescription AlarmName ComparisonOperator DatapointsToAlarm Dimensions "
            "EvaluateLowSampleCountPercentile EvaluationPeriods ExtendedStatistic InsufficientDataActions MetricName "
            "Metrics Namespace OKActions Period Statistic Tags Threshold ThresholdMetricId TreatMissingData Unit"
        ),
        create_alarm, delete_alarm, update_alarm, words("AlarmName"), alarm_attributes, "AlarmName",
    ),
    Kind(
        "AWS::CloudWatch::Dashboard", words("DashboardBody DashboardName"), create_dashboard, delete_dashboard,
        put_dashboard, words("DashboardName"), name_property="DashboardName", recorded_only=always,
    ),
)  # fmt: skip
