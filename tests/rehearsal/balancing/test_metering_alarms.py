"""Alarms through the CloudWatch API: from a request or a data point to a message in a queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from botocore.exceptions import ClientError

ELB = "AWS/ApplicationELB"


@pytest.fixture
def cloudwatch(rehearsal):
    """A CloudWatch client."""
    return rehearsal.context.client("cloudwatch")


@pytest.fixture
def inbox(rehearsal):
    """A topic's ARN, and a function that takes the messages that came to a queue of it."""
    return subscribed(rehearsal, "eu-west-1")


def subscribed(rehearsal, region):
    """A topic with a queue in a region."""
    sns, sqs = rehearsal.context.client("sns", region), rehearsal.context.client("sqs", region)
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="alarms")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def take(name):
        """The alarm messages about one alarm that are there now."""
        got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
        texts = [json.loads(json.loads(message["Body"])["Message"]) for message in got]
        return [text for text in texts if text["AlarmName"] == name]

    return topic, take


def simple(name, **changes):
    """A small alarm on a user's own metric."""
    return {
        "AlarmName": name,
        "Namespace": "Test",
        "MetricName": name,
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 10.0,
        "ComparisonOperator": "GreaterThanThreshold",
    } | changes


def state_of(cloudwatch, name):
    """An alarm as DescribeAlarms shows it."""
    return cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]


def stat(query_id, name, statistic, balancer, group):
    """A metric query of the load balancer that returns no data."""
    dimensions = [
        {"Name": "LoadBalancer", "Value": balancer.rsplit(":", 1)[1].removeprefix("loadbalancer/")},
        {"Name": "TargetGroup", "Value": group.rsplit(":", 1)[1]},
    ]
    metric = {"Namespace": ELB, "MetricName": name, "Dimensions": dimensions}
    return {"Id": query_id, "MetricStat": {"Metric": metric, "Period": 60, "Stat": statistic}, "ReturnData": False}


def test_server_errors_reach_a_queue(rehearsal, until, cloudwatch, inbox):
    """Answers of 500 put a metric-math alarm into ALARM, and a queue on its topic gets AWS's message; then it is OK."""
    topic, take = inbox
    balancer, group, url = rehearsal.serving(rehearsal.backend("one"))
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        AlarmDescription="too many",
        Metrics=[
            {"Id": "percent", "Expression": "IF(errors >= 3, 100 * errors / requests, 0)", "ReturnData": True},
            {"Id": "errors", "Expression": "FILL(m5xx, 0)", "ReturnData": False},
            {"Id": "requests", "Expression": "FILL(all, 0)", "ReturnData": False},
            stat("m5xx", "HTTPCode_Target_5XX_Count", "Sum", balancer, group),
            stat("all", "RequestCount", "Sum", balancer, group),
        ],
        EvaluationPeriods=1,
        Threshold=5.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[topic],
        OKActions=[topic],
    )
    until(lambda: state_of(cloudwatch, "errors")["StateValue"] == "OK")
    for _ in range(20):
        assert 500 == httpx.get(f"{url}/?status=500").status_code
    until(lambda: state_of(cloudwatch, "errors")["StateValue"] == "ALARM")
    (alarm,) = until(lambda: [one for one in take("errors") if one["NewStateValue"] == "ALARM"])
    assert ("OK", "111122223333", "EU (Ireland)") == (alarm["OldStateValue"], alarm["AWSAccountId"], alarm["Region"])
    assert alarm["NewStateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [100.0 (")
    until(lambda: state_of(cloudwatch, "errors")["StateValue"] == "OK")
    items = cloudwatch.describe_alarm_history(AlarmName="errors", ScanBy="TimestampAscending")["AlarmHistoryItems"]
    assert [
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from OK to ALARM",
        "Alarm updated from ALARM to OK",
    ] == [item["HistorySummary"] for item in items if item["HistoryItemType"] == "StateUpdate"]


def test_an_injected_bill_sets_off_the_billing_alarm(rehearsal, until):
    """A point put into AWS/Billing in us-east-1 puts the alarm there into ALARM and reaches a queue there."""
    cloudwatch = rehearsal.context.client("cloudwatch", "us-east-1")
    topic, take = subscribed(rehearsal, "us-east-1")
    currency = [{"Name": "Currency", "Value": "USD"}]
    bill = {
        "Namespace": "AWS/Billing",
        "MetricName": "EstimatedCharges",
        "Dimensions": currency,
        "Statistic": "Maximum",
    }
    cloudwatch.put_metric_alarm(**simple("bill", **bill, Period=21600, Threshold=50.0, AlarmActions=[topic]))
    datum = {"MetricName": "EstimatedCharges", "Dimensions": currency, "Value": 75.0}
    cloudwatch.put_metric_data(Namespace="AWS/Billing", MetricData=[datum])
    (alarm,) = until(lambda: take("bill"))
    assert ("ALARM", "US East (N. Virginia)") == (alarm["NewStateValue"], alarm["Region"])
    assert {"value": "USD", "name": "Currency"} == alarm["Trigger"]["Dimensions"][0]


def test_other_aws_namespaces_take_no_data(cloudwatch):
    """As on AWS, nobody but AWS reports AWS's metrics."""
    with pytest.raises(ClientError, match="AWS/ApplicationELB"):
        cloudwatch.put_metric_data(Namespace=ELB, MetricData=[{"MetricName": "RequestCount", "Value": 1}])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ExtendedStatistic": "tm90", "Statistic": None}, "tm90"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "GreaterThanUpperThreshold"),
        ({"Threshold": None}, "Threshold"),
        ({"Period": 45}, "period"),
        ({"DatapointsToAlarm": 2}, "DatapointsToAlarm"),
        ({"EvaluationWindow": {"WallClockWindow": {}}}, "EvaluationWindow"),
        ({"TreatMissingData": "perhaps"}, "TreatMissingData"),
    ],
)
def test_alarms_that_cannot_be_rehearsed_are_refused(cloudwatch, changes, named):
    """An alarm is never taken and then silently not evaluated: the error names what is not rehearsed."""
    asked = {key: value for key, value in simple("refused", **changes).items() if value is not None}
    with pytest.raises(ClientError, match=named):
        cloudwatch.put_metric_alarm(**asked)
    assert [] == cloudwatch.describe_alarms(AlarmNames=["refused"])["MetricAlarms"]


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("ANOMALY_DETECTION_BAND(m1)", "ANOMALY_DETECTION_BAND"),
        ("m1 + m9", "m9"),
        ("SUM(m1)", "SUM"),
        ("1 + 1", "series"),
    ],
)
def test_expressions_that_cannot_be_rehearsed_are_refused(cloudwatch, expression, named):
    """An expression with an unknown function, an unknown id, or no time series is an error when the alarm is put."""
    metric = {"Namespace": "Test", "MetricName": "m"}
    asked = {
        "AlarmName": "refused",
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "Metrics": [
            {"Id": "e1", "Expression": expression, "ReturnData": True},
            {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
        ],
    }
    with pytest.raises(ClientError, match=named):
        cloudwatch.put_metric_alarm(**asked)


def test_setting_a_state_acts_and_lasts_until_the_next_evaluation(cloudwatch, until, inbox):
    """SetAlarmState carries out the actions of the state; the next evaluation puts the data's state back."""
    topic, take = inbox
    cloudwatch.put_metric_alarm(**simple("set", AlarmActions=[topic], TreatMissingData="notBreaching"))
    until(lambda: state_of(cloudwatch, "set")["StateValue"] == "OK")
    cloudwatch.set_alarm_state(AlarmName="set", StateValue="ALARM", StateReason="a drill")
    (alarm,) = until(lambda: take("set"))
    assert "a drill" == alarm["NewStateReason"]
    until(lambda: state_of(cloudwatch, "set")["StateValue"] == "OK")


def test_disabled_actions_do_not_act(cloudwatch, until, inbox):
    """An alarm whose actions are disabled changes its state and tells nobody."""
    topic, take = inbox
    cloudwatch.put_metric_alarm(**simple("mute", AlarmActions=[topic]))
    cloudwatch.disable_alarm_actions(AlarmNames=["mute"])
    cloudwatch.put_metric_data(Namespace="Test", MetricData=[{"MetricName": "mute", "Value": 11}])
    until(lambda: state_of(cloudwatch, "mute")["StateValue"] == "ALARM")
    items = cloudwatch.describe_alarm_history(AlarmName="mute", HistoryItemType="Action")["AlarmHistoryItems"]
    assert ([], []) == (items, take("mute"))


def test_a_changed_alarm_keeps_its_state_and_tags(cloudwatch, until):
    """Putting an alarm again changes its configuration only; deleting it makes it unknown."""
    tags = [{"Key": "team", "Value": "ml"}]
    cloudwatch.put_metric_alarm(**simple("kept", TreatMissingData="notBreaching"), Tags=tags)
    arn = until(lambda: (shown := state_of(cloudwatch, "kept"))["StateValue"] == "OK" and shown["AlarmArn"])
    cloudwatch.put_metric_alarm(**simple("kept", TreatMissingData="notBreaching", Threshold=99.0))
    shown = state_of(cloudwatch, "kept")
    assert ("OK", 99.0, 1) == (shown["StateValue"], shown["Threshold"], shown["DatapointsToAlarm"])
    assert tags == cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"]
    cloudwatch.delete_alarms(AlarmNames=["kept"])
    assert [] == cloudwatch.describe_alarms(AlarmNames=["kept"])["MetricAlarms"]
    with pytest.raises(ClientError, match="ResourceNotFound"):
        cloudwatch.delete_alarms(AlarmNames=["kept"])


def test_requests_become_metrics(rehearsal, until, cloudwatch):
    """Requests, statuses, response times and host counts can be read with the dimensions that AWS gives them."""
    balancer, group, url = rehearsal.serving(rehearsal.backend("one"), rehearsal.backend("two"))
    for status in (200, 200, 200, 404, 503):
        httpx.get(f"{url}/?status={status}")
    names = {
        "RequestCount": "Sum",
        "HTTPCode_Target_2XX_Count": "Sum",
        "HTTPCode_Target_4XX_Count": "Sum",
        "HTTPCode_Target_5XX_Count": "Sum",
        "TargetResponseTime": "SampleCount",
        "HealthyHostCount": "Minimum",
        "UnHealthyHostCount": "Maximum",
        "RequestCountPerTarget": "Sum",
    }
    queries = [stat(f"q{at}", *item, balancer, group) | {"ReturnData": True} for at, item in enumerate(names.items())]
    now = datetime.now(UTC)

    def read():
        got = cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=now - timedelta(hours=1), EndTime=now + timedelta(hours=1)
        )["MetricDataResults"]
        return {result["Label"]: sum(result["Values"]) for result in got}

    until(lambda: read()["RequestCount"] == 5)
    counted = read()
    assert [5, 3, 1, 1, 5] == [counted[name] for name in list(names)[:5]]
    assert (2, 0, 2.5) == tuple(counted[name] for name in list(names)[5:])
    listed = cloudwatch.list_metrics(
        Namespace=ELB, Dimensions=[{"Name": "TargetGroup", "Value": group.rsplit(":", 1)[1]}]
    )
    assert set(names) == {metric["MetricName"] for metric in listed["Metrics"]}


def test_statistics_of_a_metric(cloudwatch):
    """GetMetricStatistics gives plain statistics and percentiles of what was put, and metric math works on queries."""
    now = datetime.now(UTC)
    data = [{"MetricName": "latency", "Values": [float(n) for n in range(1, 101)], "Unit": "Seconds", "Timestamp": now}]
    cloudwatch.put_metric_data(Namespace="Test", MetricData=data)
    asked = {
        "Namespace": "Test",
        "MetricName": "latency",
        "StartTime": now - timedelta(minutes=5),
        "EndTime": now + timedelta(minutes=5),
        "Period": 3600,
    }
    plain = cloudwatch.get_metric_statistics(**asked, Statistics=["Average", "SampleCount"])["Datapoints"]
    assert [(50.5, 100.0, "Seconds")] == [(one["Average"], one["SampleCount"], one["Unit"]) for one in plain]
    (point,) = cloudwatch.get_metric_statistics(**asked, ExtendedStatistics=["p99", "p50"])["Datapoints"]
    assert {"p99": 99.0, "p50": 50.0} == point["ExtendedStatistics"]
    metric = {"Namespace": "Test", "MetricName": "latency"}
    got = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {"Id": "m1", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "p90"}, "ReturnData": False},
            {"Id": "ms", "Expression": "1000 * m1", "Label": "p90 in ms"},
        ],
        StartTime=asked["StartTime"],
        EndTime=asked["EndTime"],
    )["MetricDataResults"]
    assert [("ms", "p90 in ms", [90000.0])] == [(one["Id"], one["Label"], one["Values"]) for one in got]


def test_task_counts_come_from_ecs(rehearsal, until, cloudwatch):
    """A cluster with Container Insights reports how many tasks run in it; one without does not."""
    ecs = rehearsal.context.client("ecs")
    ecs.create_cluster(clusterName="seen", settings=[{"name": "containerInsights", "value": "enabled"}])
    ecs.create_cluster(clusterName="unseen")

    def metrics():
        return cloudwatch.list_metrics(Namespace="ECS/ContainerInsights", MetricName="TaskCount")["Metrics"]

    assert [[{"Name": "ClusterName", "Value": "seen"}]] == [one["Dimensions"] for one in until(metrics)]
