"""Why tasks of a new revision do not come up: stop reasons, exit codes and last log lines, in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from pipeline.aws.ecs import Service, StoppedTask, describe_service, running_tasks, stopped_tasks
from pipeline.aws.elbv2 import target_health
from pipeline.aws.logs import last_lines
from pipeline.aws.session import Aws
from pipeline.deployment.place import Place

SHOWN_TASKS = 3
SHOWN_LINES = 8
READ_LINES = 100  # most of what a start that hangs writes are the answers to health checks
LINE_LENGTH = 300
NO_FAILURE = ("UserInitiated", "SpotInterruption", "TerminationNotice")
# ECS tells of failed placement in service events alone, and these are text alone:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html
PLACEMENT_MESSAGES = ("unable to place a task", "failed to launch a task", "was unable to assume the role")


@dataclass(frozen=True, slots=True)
class Witness:
    """A task of the new revision, and what ECS or the load balancer says of it."""

    task_id: str
    said: str


def failed_tasks(aws: Aws, place: Place, task_definition_arn: str, since: datetime | None) -> tuple[StoppedTask, ...]:
    """The tasks of this revision that stopped by themselves since the deployment began."""
    stopped = stopped_tasks(aws, place.cluster, place.service, task_definition_arn)
    return tuple(
        task
        for task in stopped
        if task.stop_code not in NO_FAILURE and not (since and task.created_at and task.created_at < since)
    )


def placement_failure(service: Service | None, since: datetime | None) -> str:
    """The service event that says a task cannot be placed, or "" when there is none since the deployment began."""
    for at, message in service.events if service else ():
        if (since is None or at >= since) and any(words in message for words in PLACEMENT_MESSAGES):
            return message
    return ""


def witnesses(aws: Aws, place: Place, task_definition_arn: str, since: datetime | None) -> tuple[Witness, ...]:
    """The failed tasks; where none has, those that run and do not get ready."""
    running = _running(aws, place, task_definition_arn)
    failed = failed_tasks(aws, place, task_definition_arn, since)  # last: one of those may have failed meanwhile
    return running if not failed else tuple(
        Witness(task.task_id, f"{task.reason or task.stop_code or 'stopped'}{_exits(task)}") for task in failed
    )  # fmt: skip


def _running(aws: Aws, place: Place, task_definition_arn: str) -> tuple[Witness, ...]:
    """What the load balancer says of each."""
    service = describe_service(aws, place.cluster, place.service)
    seen = {
        target.target.rsplit(":", 1)[0]: f" and is {target.state}" + (f" ({target.reason})" if target.reason else "")
        for group in (service.target_groups if service else ())
        for target in target_health(aws, group)
    }
    running = running_tasks(aws, place.cluster, place.service, task_definition_arn)
    return tuple(Witness(task.task_id, f"{task.status}{seen.get(task.address, '')}") for task in running)


def explain_tasks(aws: Aws, place: Place, tasks: tuple[Witness, ...]) -> tuple[str, ...]:
    """A line per task with what was said of it; its last log lines beneath, unless they are the same."""
    lines: list[str] = []
    shown: set[tuple[str, ...]] = set()
    for task in tasks[-SHOWN_TASKS:]:
        lines.append(f"task {task.task_id}: {task.said}")
        written = last_lines(aws, place.log_group, task.task_id, READ_LINES)
        said = tuple(readable(line) for line in written if not _is_probe(line))[-SHOWN_LINES:]
        lines += [f"  | {line}" for line in said] if said not in shown else ["  | (the same lines)"]
        shown.add(said)
    return tuple(lines)


def _is_probe(line: str) -> bool:
    """Whether the model service's line is about a request of a health check, whose answer is known here."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and str(entry.get("path", "")).startswith("/v2/health/")


def readable(line: str) -> str:
    """A log line for people: of a JSON line its level, message and what the stack ends with; 300 characters at most."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if isinstance(entry, dict) and "message" in entry:
        first = str(entry["message"]).partition("\n")[0]
        stack = str(entry.get("stack") or "").strip().rpartition("\n")[2]
        stack = "" if stack in str(entry["message"]) else stack
        line = ": ".join(part for part in (str(entry.get("level", "")), first, stack) if part)
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 3] + "..."


def _exits(task: StoppedTask) -> str:
    words = []
    for name, exit_code, reason in task.exit_codes:
        own = "" if reason == task.reason else reason  # ECS says some reasons of the task and its container alike
        if exit_code is not None or own:
            code = f"exit code {exit_code}" if exit_code is not None else ""
            words.append(f"{name}: {', '.join(part for part in (code, own) if part)}")
    return f" ({'; '.join(words)})" if words else ""
