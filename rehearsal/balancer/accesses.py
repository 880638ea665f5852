"""What the load balancer did: every request, and every change of weights."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

KEPT = 100_000


class Access(NamedTuple):
    """One request. `elb_status` is what the client got from the load balancer, `target_status` what the target said;
    `target_duration_s` lasts until the target's headers. `forwarded`: a target was chosen."""

    time: float
    load_balancer: str
    listener_port: int
    client: str
    method: str
    path: str
    user_agent: str
    elb_status: int
    target_status: int | None
    target_group: str | None
    target_ip: str | None
    target_port: int | None
    duration_s: float
    target_duration_s: float | None
    connect_failed: bool


class AccessLog:
    """The last requests in memory, all of them in a file, and those that nobody has metered yet."""

    def __init__(self, file: Path, task_arn: Callable[[str], str | None]) -> None:
        self._file = file
        self._task_arn = task_arn
        self._recent: deque[Access] = deque(maxlen=KEPT)
        self._unwritten: list[Access] = []
        self._unmetered: deque[Access] = deque(maxlen=KEPT)
        self._weights: list[dict[str, Any]] = []
        self._current: dict[str, dict[str, int]] = {}

    def add(self, access: Access) -> None:
        """Note one request."""
        self._recent.append(access)
        self._unwritten.append(access)
        self._unmetered.append(access)

    def unmetered(self) -> list[Access]:
        """The requests since the last call."""
        accesses = list(self._unmetered)
        self._unmetered.clear()
        return accesses

    def entries(self) -> list[dict[str, Any]]:
        """The requests kept in memory, oldest first."""
        return [self._entry(access) for access in self._recent.copy()]

    def write(self) -> None:
        """Append what is new to the file, one JSON object a line; what cannot be written waits for the next time."""
        fresh, self._unwritten = self._unwritten, []
        if not fresh:
            return
        try:
            append(self._file, "".join(json.dumps(self._entry(access)) + "\n" for access in fresh))
        except OSError:
            self._unwritten = [*fresh, *self._unwritten][-KEPT:]
            raise

    def _entry(self, access: Access) -> dict[str, Any]:
        return {
            "time": shown(access.time),
            "listener_port": access.listener_port,
            "client": access.client,
            "method": access.method,
            "path": access.path,
            "elb_status": access.elb_status,
            "target_status": access.target_status,
            "target": f"{access.target_ip}:{access.target_port}" if access.target_ip else None,
            "task_arn": self._task_arn(access.target_ip) if access.target_ip else None,
            "duration_s": round(access.duration_s, 6),
            "user_agent": access.user_agent,
        }

    def note_weights(self, rule_arn: str, listener_port: int, weights: dict[str, int], at: float) -> None:
        """Note a rule's weights when they differ from before."""
        if self._current.get(rule_arn, {}) != weights:
            self._current[rule_arn] = weights
            self._weights.append(
                {"time": shown(at), "rule_arn": rule_arn, "listener_port": listener_port, "weights": weights}
            )

    def weights(self) -> list[dict[str, Any]]:
        """Every change of a rule's weights, oldest first; a deleted rule ends with none."""
        return self._weights.copy()


def shown(seconds: float) -> str:
    """A time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def append(path: Path, lines: str) -> None:
    """Add lines to a file, all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        whole, added = file.tell(), lines.encode()
        try:
            while added:
                added = added[file.write(added) :]
        except OSError:
            file.truncate(whole)
            raise
