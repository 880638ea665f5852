"""The part of the rehearsal that balances load: it owns the ELBv2 API and the ports of the listeners."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp

from rehearsal.balancer import front
from rehearsal.balancer.accesses import Access, AccessLog
from rehearsal.balancer.api.listeners import Listeners
from rehearsal.balancer.api.load_balancers import LoadBalancers
from rehearsal.balancer.api.rules import Rules
from rehearsal.balancer.api.tags import Tags
from rehearsal.balancer.api.target_groups import TargetGroups
from rehearsal.balancer.estate import Estate, Listener, full_name
from rehearsal.balancer.health import HealthChecker
from rehearsal.balancer.ports import Ports
from rehearsal.balancer.proxy import Proxy
from rehearsal.balancer.traffic import Traffic
from rehearsal.balancer.upstream import open_session
from rehearsal.context import Context

log = logging.getLogger(__name__)
WRITE_EVERY_S = 0.5


class Balancing:
    """install, start, stop; then load balancers made through the API answer on real ports."""

    not_rehearsed = (
        "The load balancer speaks HTTP/1.1 only: no TLS, HTTP/2, gRPC, Lambda or instance targets, sign-in actions,"
        " regular expressions or transforms in rules.",
        "Slow start, zones, WAF and the load balancer's log buckets are recorded, not acted on.",
        "A load balancer is active at once; on AWS that takes minutes.",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._estate = Estate()
        self._log = AccessLog(context.settings.state_dir / "access.log", context.addresses.task_arn)
        self._health = HealthChecker(context.addresses)
        self._traffic = Traffic(self._estate, self._health, self._log)
        self._ports = Ports(self._handler, context.reserved)
        self._session: aiohttp.ClientSession | None = None
        self._writing: asyncio.Task[None] | None = None
        self._owing = False

    def install(self) -> None:
        """Answer the ELBv2 API; call before the API server starts."""
        listeners = Listeners(self._estate, self._traffic, self._ports)
        front.install(
            self._context,
            [
                LoadBalancers(self._context, self._estate, listeners),
                listeners,
                Rules(self._estate, self._traffic),
                TargetGroups(self._context, self._estate, self._traffic),
                Tags(self._estate),
            ],
        )

    async def start(self) -> None:
        """Be ready for requests and health checks."""
        self._session = open_session()
        await self._health.start()
        self._writing = asyncio.ensure_future(self._keep_writing())

    async def stop(self) -> None:
        """Close every port, end the checks, and write what is left of the access log."""
        await asyncio.gather(*(self._ports.close(listener) for listener in self._estate.listeners.values()))
        for group in self._estate.target_groups.values():
            group.pool.close()
        await self._health.stop()
        if self._session is not None:
            await self._session.close()
        if self._writing is not None:
            self._writing.cancel()
        self._write()

    def access_log(self) -> list[dict[str, Any]]:
        """The last requests, oldest first; state_dir/access.log has them all."""
        return self._log.entries()

    def weights(self) -> list[dict[str, Any]]:
        """Every change of a rule's weights, oldest first."""
        return self._log.weights()

    def unmetered(self) -> list[Access]:
        """The requests since the last call."""
        return self._log.unmetered()

    def target_counts(self) -> list[tuple[str, str, int, int, int]]:
        """Per load balancer and target group that are used together (full names): targets, healthy, unhealthy ones."""
        return [
            (full_name(balancer), full_name(arn), len(pool.targets), pool.count("healthy"), pool.count("unhealthy"))
            for arn, pool in ((arn, group.pool) for arn, group in self._estate.target_groups.items())
            for balancer in self._estate.balancers_of(arn)
        ]

    def _handler(self, listener: Listener) -> Any:
        if self._session is None:
            raise RuntimeError("a listener before start()")
        return Proxy(self._context.addresses, self._session, self._log).handler(listener)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self._write()

    def _write(self) -> None:
        """A full disk is said once, and the requests that the log owes are kept."""
        try:
            self._log.write()
        except OSError as error:
            if not self._owing:
                log.error("%s cannot be written: %s", error.filename or "the access log", error.strerror)
            self._owing = True
        else:
            self._owing = False
