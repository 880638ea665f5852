"""What the service's tasks wrote, as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.aws.logs import STREAM_PREFIX, log_lines
from pipeline.aws.session import Aws
from pipeline.config import Config
from pipeline.deployment.place import find_place
from pipeline.results import LogLine
from pipeline.waiting import Clock

# CloudWatch shows events late and not in order; looking back this far again loses none.
LOOK_BACK_MS = 10_000


def logs(
    config: Config, aws: Aws, clock: Clock, *, service: str, since_s: float = 600, follow: bool = False,
    task_id: str | None = None, pattern: str = "",
) -> Iterator[LogLine]:  # fmt: skip
    """Lines of all tasks, or of one, since `since_s` seconds ago; with `follow` it does not end."""
    group = find_place(config, aws, service).log_group
    streams = (STREAM_PREFIX + task_id,) if task_id else ()
    since_ms = int((clock.now().timestamp() - since_s) * 1000)
    seen: dict[str, int] = {}
    while True:
        for line in log_lines(aws, group, since_ms=since_ms, streams=streams, pattern=pattern):
            if line.event_id not in seen:
                seen[line.event_id] = line.timestamp_ms
                yield line
        if not follow:
            return
        since_ms = max([since_ms, *(at - LOOK_BACK_MS for at in seen.values())])
        seen = {event_id: at for event_id, at in seen.items() if at >= since_ms}
        clock.sleep(config.poll_interval_s)
