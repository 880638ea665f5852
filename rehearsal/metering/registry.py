"""The alarms of one region: their states, their history, and what changes of state set off."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from rehearsal.metering.alarms import NO_DATA, Alarm, Verdict, check, evaluate, slot_at
from rehearsal.metering.notices import Notice, notice
from rehearsal.metering.queries import Request
from rehearsal.metering.store import Store

HISTORY = 10_000
COPIED = (
    "AlarmName", "AlarmDescription", "MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions",
    "Period", "Unit", "EvaluationPeriods", "Threshold", "ComparisonOperator", "EvaluateLowSampleCountPercentile",
    "Metrics",
)  # fmt: skip


class Alarms:
    """Every alarm by name. `publish` carries out one action and gives what went wrong, or None."""

    def __init__(
        self, account: str, region: str, store: Store, publish: Callable[[str, Notice], Awaitable[str | None]]
    ) -> None:
        self._account = account
        self._region = region
        self._store = store
        self._publish = publish
        self._acting: set[asyncio.Task[None]] = set()
        self.by_name: dict[str, Alarm] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def put(self, asked: Request) -> None:
        """A new alarm without data, or another configuration for one that keeps its state.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
        """
        queries = check(asked)
        name, now = asked["AlarmName"], datetime.now(UTC)
        known = self.by_name.get(name)
        start = {
            "StateValue": NO_DATA,
            "StateReason": "Unchecked: Initial alarm creation",
            "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now,
        }
        state = {key: known.description[key] for key in start} if known else start
        description = {
            **{key: asked[key] for key in COPIED if asked.get(key) is not None},
            **state,
            "AlarmArn": f"arn:aws:cloudwatch:{self._region}:{self._account}:alarm:{name}",
            "AlarmConfigurationUpdatedTimestamp": now,
            "ActionsEnabled": asked.get("ActionsEnabled", True) is not False,
            "DatapointsToAlarm": asked.get("DatapointsToAlarm") or asked["EvaluationPeriods"],
            "TreatMissingData": asked.get("TreatMissingData", "missing"),
            **{key: asked.get(key) or [] for key in ("AlarmActions", "OKActions", "InsufficientDataActions")},
        }
        tags = known.tags if known else {tag["Key"]: tag["Value"] for tag in asked.get("Tags", [])}
        self.by_name[name] = Alarm(description, queries, tags)
        self._note(name, "ConfigurationUpdate", f'Alarm "{name}" {"updated" if known else "created"}', {})

    def delete(self, names: list[str]) -> None:
        """The alarms are gone; their history stays."""
        for name in names:
            if self.by_name.pop(name, None) is not None:
                self._note(name, "ConfigurationUpdate", f'Alarm "{name}" deleted', {})

    def evaluate(self, now: float, minute_s: float) -> None:
        """Evaluate each alarm whose next moment has come: every minute, or every period when that is shorter.

        The window slides by that step: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html
        """
        for alarm in self.by_name.values():
            step_s = alarm.period_s / 60 * minute_s
            grid_s = min(minute_s, step_s)
            slot = slot_at(now, grid_s)
            if slot > alarm.slot:
                alarm.slot = slot
                verdict = evaluate(alarm, self._store, slot * grid_s, step_s)
                if verdict.state != alarm.state:
                    self.move(alarm, verdict)

    def move(self, alarm: Alarm, verdict: Verdict, reason_data: str | None = None) -> None:
        """Put the alarm into another state and set off the actions of that state."""
        old, now = alarm.description, datetime.now(UTC)
        alarm.description = old | {
            "StateValue": verdict.state,
            "StateReason": verdict.reason,
            "StateReasonData": reason_data or _reason_data(verdict, old, now),
            "StateUpdatedTimestamp": now,
        }
        if verdict.state == old["StateValue"]:
            return
        alarm.description["StateTransitionedTimestamp"] = now
        states = {
            when: {"stateValue": one["StateValue"], "stateReason": one["StateReason"]}
            for when, one in (("oldState", old), ("newState", alarm.description))
        }
        self._note(alarm.name, "StateUpdate", f"Alarm updated from {old['StateValue']} to {verdict.state}", states)
        told = notice(alarm, old["StateValue"], self._account, self._region)
        task = asyncio.ensure_future(self._act(alarm.name, told))
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)

    async def _act(self, name: str, told: Notice) -> None:
        for action in told.actions:
            failure = await self._publish(action, told)
            did = (
                f"Failed to execute action {action}: {failure}" if failure else f"Successfully executed action {action}"
            )
            self._note(name, "Action", did, {"actionState": "Failed" if failure else "Succeeded", "action": action})

    def _note(self, name: str, kind: str, summary: str, data: dict[str, Any]) -> None:
        self.history.append(
            {
                "AlarmName": name,
                "AlarmType": "MetricAlarm",
                "Timestamp": datetime.fromtimestamp(time.time(), UTC),
                "HistoryItemType": kind,
                "HistorySummary": summary,
                "HistoryData": json.dumps({"version": "1.0"} | data),
            }
        )

    async def settle(self) -> None:
        """Wait for the actions under way."""
        await asyncio.gather(*self._acting)


def _reason_data(verdict: Verdict, shown: dict[str, Any], now: datetime) -> str:
    about = {"queryDate": now.isoformat(), "recentDatapoints": verdict.recent, "threshold": shown["Threshold"]}
    return json.dumps({"version": "1.0"} | about)
