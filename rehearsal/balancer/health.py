"""Health checks of targets, in real time.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from yarl import URL

from rehearsal.balancer.targets import HEALTHY, INITIAL, UNUSED, Pool, State, Target
from rehearsal.context import LOOPBACK, AddressBook

TIMEOUT: State = ("unhealthy", "Target.Timeout", "Request timed out")
FAILED: State = ("unhealthy", "Target.FailedHealthChecks", "Health checks failed")


class HealthChecker:
    """Keeps every target of every target group that is in use under its health check."""

    def __init__(self, addresses: AddressBook) -> None:
        self._addresses = addresses
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open what the checks go out by: a new connection for each."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def stop(self) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    def watch(self, pool: Pool, settings: dict[str, Any], in_use: bool) -> None:
        """Check the pool's targets when a rule forwards to their group, else show them as unused."""
        for target in pool.targets.values():
            running = target.checking is not None
            if in_use and not running:
                pool.set_state(target, INITIAL)
                target.checking = asyncio.ensure_future(self._keep_checking(pool, target, settings))
            elif not in_use:
                if target.checking is not None:
                    target.checking.cancel()
                    target.checking = None
                pool.set_state(target, UNUSED)

    async def _keep_checking(self, pool: Pool, target: Target, settings: dict[str, Any]) -> None:
        """The first check comes at once; `settings` is the group's own description, so changes count at the next."""
        passed = failed = 0
        while True:
            outcome = await self._check(target, settings)
            passed, failed = (passed + 1, 0) if outcome == HEALTHY else (0, failed + 1)
            pool.set_state(target, judged(target.state, outcome, passed, failed, settings))
            await asyncio.sleep(settings["HealthCheckIntervalSeconds"])

    async def _check(self, target: Target, settings: dict[str, Any]) -> State:
        """What one check says."""
        wanted = settings["HealthCheckPort"]
        port = target.port if wanted == "traffic-port" else int(wanted)
        real_port = self._addresses.real_port(target.ip, port)
        if real_port is None or self._session is None:
            return FAILED
        url = URL(f"http://{LOOPBACK}:{real_port}{settings['HealthCheckPath']}", encoded=True)
        headers = {"User-Agent": "ELB-HealthChecker/2.0", "Host": f"{target.ip}:{port}"}
        timeout = aiohttp.ClientTimeout(total=settings["HealthCheckTimeoutSeconds"])
        try:
            async with self._session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
                await answer.read()
                status = answer.status
        except TimeoutError:
            return TIMEOUT
        except (aiohttp.ClientError, OSError):
            return FAILED
        if matches(settings["Matcher"]["HttpCode"], status):
            return HEALTHY
        return ("unhealthy", "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]")


def judged(state: State, outcome: State, passed: int, failed: int, settings: dict[str, Any]) -> State:
    """The state after an outcome: one success makes a new target healthy, thresholds in a row rule the rest."""
    if outcome == HEALTHY:
        enough = state[0] == "initial" or passed >= settings["HealthyThresholdCount"]
        return HEALTHY if enough else state
    if state[0] == "unhealthy" or failed >= settings["UnhealthyThresholdCount"]:
        return outcome
    if state[0] == "initial":
        return ("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
    return state


def matches(codes: str, status: int) -> bool:
    """Whether `status` is among codes like "200", "200,204" or "200-299"."""
    for part in codes.split(","):
        low, _, high = part.partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False
