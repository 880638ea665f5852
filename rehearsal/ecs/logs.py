"""A container's output, shipped to CloudWatch Logs.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html: stream prefix/container/task.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from rehearsal.context import Context

BATCH_EVERY_S = 1.0
BATCH_EVENTS = 1000
LINE_BYTES = 200_000


class NoLogStream(Exception):
    """The stream cannot be made; the text is the container agent's."""


@dataclass(frozen=True)
class LogStream:
    """Where one container's lines go."""

    group: str
    name: str


async def open_stream(context: Context, container: dict[str, Any], task_id: str) -> LogStream | None:
    """Create the container's stream, or None when it logs nowhere."""
    configuration = container.get("logConfiguration") or {}
    if configuration.get("logDriver") != "awslogs":
        return None
    options = configuration.get("options") or {}
    prefix = options.get("awslogs-stream-prefix", "ecs")
    stream = LogStream(options["awslogs-group"], f"{prefix}/{container['name']}/{task_id}")
    try:
        if options.get("awslogs-create-group") == "true":
            await _create_group(context, stream.group)
        await context.call("logs", "create_log_stream", logGroupName=stream.group, logStreamName=stream.name)
    except ClientError as error:
        raise NoLogStream(
            "failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log"
            f" stream: {error.response['Error']['Code']}: {error.response['Error']['Message']}"
        ) from error
    return stream


async def _create_group(context: Context, group: str) -> None:
    try:
        await context.call("logs", "create_log_group", logGroupName=group)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise


async def ship(context: Context, stream: LogStream | None, output: asyncio.StreamReader) -> None:
    """Send lines in batches until the output ends."""
    lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    sending = asyncio.create_task(_send(context, stream, lines))
    async for line in _lines(output):
        lines.put_nowait({"timestamp": int(time.time() * 1000), "message": line})
    lines.put_nowait(None)
    await sending


async def _lines(output: asyncio.StreamReader) -> Any:
    rest = b""
    while chunk := await output.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES:
            whole, rest = [*whole, rest], b""
        for line in whole:
            if line.strip():
                yield line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
    if rest.strip():
        yield rest.decode("utf-8", "replace")


async def _send(context: Context, stream: LogStream | None, lines: asyncio.Queue[dict[str, Any] | None]) -> None:
    done = False
    while not done:
        batch = [await lines.get()]
        await asyncio.sleep(0 if batch[0] is None else BATCH_EVERY_S)
        while not lines.empty() and len(batch) < BATCH_EVENTS:
            batch.append(lines.get_nowait())
        done = batch[-1] is None
        events = [event for event in batch if event]
        if events and stream:
            await _put(context, stream, events)


async def _put(context: Context, stream: LogStream, events: list[dict[str, Any]]) -> None:
    try:
        await context.call(
            "logs", "put_log_events", logGroupName=stream.group, logStreamName=stream.name, logEvents=events
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":  # the group went with its stack
            raise
