"""CloudWatch: the state of alarms by name."""

from __future__ import annotations

from pipeline.aws.session import Aws


def alarm_states(aws: Aws, names: tuple[str, ...]) -> dict[str, str]:
    """Alarm name -> OK, ALARM or INSUFFICIENT_DATA; a name that no alarm has is missing from the answer."""
    states: dict[str, str] = {}
    for start in range(0, len(names), 100):  # DescribeAlarms takes 100 names
        wanted = list(names[start : start + 100])
        answer = aws.call(
            "cloudwatch", "describe_alarms", AlarmNames=wanted, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        for kind in ("MetricAlarms", "CompositeAlarms"):
            states |= {alarm["AlarmName"]: alarm["StateValue"] for alarm in answer.get(kind) or ()}
    return states
