"""CloudWatch Logs: what tasks wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.aws.session import Aws
from pipeline.errors import AwsError
from pipeline.results import LogLine

STREAM_PREFIX = "model/model/"  # awslogs: prefix/container/task id


def log_lines(
    aws: Aws, group: str, *, since_ms: int, streams: tuple[str, ...] = (), pattern: str = ""
) -> Iterator[LogLine]:
    """Events since a moment (milliseconds since 1970), oldest first within each page of CloudWatch's answer."""
    request: dict[str, Any] = {"logGroupName": group, "startTime": since_ms}
    if streams:
        request["logStreamNames"] = list(streams)
    if pattern:
        request["filterPattern"] = pattern
    for event in aws.pages("logs", "filter_log_events", "events", **request):
        yield LogLine(event["eventId"], event["timestamp"], event["logStreamName"], event["message"].rstrip("\n"))


def last_lines(aws: Aws, group: str, task_id: str, limit: int = 10, *, prefix: str = STREAM_PREFIX) -> tuple[str, ...]:
    """The last lines of one task, or none when it never got as far as to write."""
    try:
        answer = aws.call(
            "logs", "get_log_events", logGroupName=group, logStreamName=prefix + task_id,
            limit=limit, startFromHead=False,
        )  # fmt: skip
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            return ()
        raise
    return tuple(event["message"].rstrip("\n") for event in answer["events"][-limit:])
