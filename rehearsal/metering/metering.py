"""The part of the rehearsal that measures and alarms: it owns CloudWatch's metrics and alarms."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import moto.cloudwatch.urls
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from rehearsal.balancer import Balancing
from rehearsal.context import Context
from rehearsal.metering import sources
from rehearsal.metering.actions import Actions
from rehearsal.metering.notices import publish
from rehearsal.metering.registry import Alarms
from rehearsal.metering.store import Store

log = logging.getLogger(__name__)
COUNT_TASKS_EVERY_S = 2.0
FORGET_EVERY_S = 60.0


class Metering:
    """install, start, stop; then the load balancer's requests become metrics, and metrics become alarms."""

    not_rehearsed = (
        "Alarms know the statistics SampleCount, Sum, Average, Minimum, Maximum and percentiles, and of metric math"
        " FILL, IF, SUM, AVG, MIN, MAX, ABS, CEIL, FLOOR, METRICS, arithmetic and comparisons; others are refused.",
        "Composite, anomaly and log alarms are not rehearsed; neither are actions of alarms other than SNS.",
        "Bills come only from PutMetricData into AWS/Billing, which AWS itself refuses; no other AWS/ namespace takes"
        " data.",
        "CPU and memory of tasks are not measured, and autoscaling's own alarms are neither shown nor evaluated.",
        "Metrics have no delay here; AWS publishes them one to three minutes late. Queries count in real seconds.",
    )

    def __init__(self, context: Context, balancing: Balancing | None = None) -> None:
        """Without `balancing` only what is put through the API is metered."""
        self._context = context
        self._balancing = balancing
        self._stores: dict[str, Store] = {}
        self._alarms: dict[str, Alarms] = {}
        self._loops: list[asyncio.Task[None]] = []
        minute_s = context.settings.seconds_per_minute
        self._tick_s = minute_s / max(2, math.ceil(minute_s))

    def install(self) -> None:
        """Answer CloudWatch's API for metrics and alarms; call before the API server starts."""
        actions = Actions(self._store_of, self._alarms_of)
        context = self._context

        class CloudWatchFront(CloudWatchResponse):
            pass

        def answering(action: Callable[[str, dict[str, Any]], Any]) -> Callable[[CloudWatchFront], ActionResult]:
            return lambda self: ActionResult(context.run(action(self.region, self._get_params())))

        for name in dir(actions):
            if not name.startswith("_"):
                setattr(CloudWatchFront, name, answering(getattr(actions, name)))
        moto.cloudwatch.urls.url_paths["{0}/$"] = CloudWatchFront.dispatch

    async def start(self) -> None:
        """Begin to measure and to evaluate."""
        if self._balancing is None:
            log.warning("no load balancer is metered")
        self._loops = [
            asyncio.ensure_future(_forever(self._tick_s, self._tick)),
            asyncio.ensure_future(_forever(COUNT_TASKS_EVERY_S, self._count_tasks)),
            asyncio.ensure_future(_forever(FORGET_EVERY_S, self._forget)),
        ]

    async def stop(self) -> None:
        """Stop measuring, and let the actions of alarms that are under way end."""
        for loop in self._loops:
            loop.cancel()
        for alarms in self._alarms.values():
            await alarms.settle()

    def _store_of(self, region: str) -> Store:
        return self._stores.setdefault(region, Store())

    def _alarms_of(self, region: str) -> Alarms:
        if region not in self._alarms:
            account = self._context.settings.account
            act = functools.partial(publish, self._context)
            self._alarms[region] = Alarms(account, region, self._store_of(region), act)
        return self._alarms[region]

    async def _tick(self, now: float) -> None:
        """Measure what happened since the last tick, then evaluate every alarm."""
        if self._balancing is not None:
            hosts = [sources.HostCount(*counts) for counts in self._balancing.target_counts()]
            self._add(sources.requests(self._balancing.unmetered(), hosts, self._tick_s))
            self._add(sources.host_counts(hosts, now))
        for alarms in self._alarms.values():
            alarms.evaluate(now, self._context.settings.seconds_per_minute)

    async def _count_tasks(self, now: float) -> None:
        self._add(await sources.tasks(self._context, now))

    async def _forget(self, now: float) -> None:
        for store in self._stores.values():
            store.forget(now)

    def _add(self, measured: Any) -> None:
        store = self._store_of(self._context.settings.region)
        for one in measured:
            store.add(one.key, one.at, one.sample, one.unit)


async def _forever(every_s: float, work: Callable[[float], Any]) -> None:
    """Do `work` at every multiple of `every_s`; one failure is logged and does not end the rest."""
    while True:
        now = time.time()
        await asyncio.sleep((math.floor(now / every_s) + 1) * every_s - now)
        try:
            await work(time.time())
        except Exception:
            log.exception("%s failed", work.__name__)
