"""One running load balancer and CloudWatch for these tests, and small real servers behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from moto.server import ThreadedMotoServer

from rehearsal.balancer import Balancing
from rehearsal.context import Context, Settings
from rehearsal.metering import Metering
from tests.rehearsal.routes import own_routes

NUMBERS = count(1)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """What `holds` gives once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (got := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        time.sleep(0.05)
    return got


@dataclass
class Backend:
    """A real HTTP server; what it does can be changed while it runs."""

    name: str
    ip: str
    port: int = 0
    healthy: int = 200
    seen: list[web.Request] = field(default_factory=list)
    runner: web.AppRunner | None = None

    async def start(self, **settings: Any) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/health", self._health)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/die", self._die)
        app.router.add_get("/die-half-way", self._die_half_way)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1, **settings)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def _health(self, request: web.Request) -> web.Response:
        if self.healthy == 0:
            await asyncio.sleep(30)
        return web.Response(status=self.healthy)

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        body = await request.read()
        await asyncio.sleep(float(request.query.get("sleep", 0)))
        headers = {"X-Backend": self.name, "X-Length": str(len(body))}
        return web.Response(text=self.name, status=int(request.query.get("status", 200)), headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for number in range(5):
            await answer.write(f"{number};".encode())
            await asyncio.sleep(0.01)
        return answer

    async def _die(self, request: web.Request) -> web.Response:
        request.transport.abort()
        return web.Response()

    async def _die_half_way(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x" * 100)
        await asyncio.sleep(0.05)
        request.transport.abort()
        return answer

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("speech",))
        await ws.prepare(request)
        async for message in ws:
            if message.data == "bye":
                await ws.close(code=4001, message=b"as asked")
            else:
                await ws.send_str(f"{self.name}: {message.data}")
        return ws


@dataclass
class Rehearsal:
    """The running parts and short ways to make things with them."""

    context: Context
    balancing: Balancing
    subnets: list[str]
    vpc_id: str
    backends: list[Backend] = field(default_factory=list)

    @property
    def elb(self) -> Any:
        """A client of the ELBv2 API."""
        return self.context.client("elbv2")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the rehearsal's own loop."""
        return self.context.run(work, 60)

    def backend(self, name: str, **settings: Any) -> Backend:
        """A started server with an address that the load balancer can resolve."""
        backend = Backend(name, f"10.0.{next(NUMBERS)}.7")
        self.run(backend.start(**settings))
        self.context.addresses.put(backend.ip, {8080: backend.port}, f"arn:task/{name}")
        self.backends.append(backend)
        return backend

    def balancer(self) -> str:
        """A load balancer's ARN."""
        made = self.elb.create_load_balancer(Name=f"lb-{next(NUMBERS)}", Subnets=self.subnets)
        return str(made["LoadBalancers"][0]["LoadBalancerArn"])

    def group(self, *backends: Backend, **settings: Any) -> str:
        """A target group's ARN, with these backends registered."""
        asked = {
            "Name": f"tg-{next(NUMBERS)}",
            "Protocol": "HTTP",
            "Port": 8080,
            "VpcId": self.vpc_id,
            "TargetType": "ip",
            "HealthCheckPath": "/health",
            "HealthCheckIntervalSeconds": 5,
            "HealthCheckTimeoutSeconds": 2,
        } | settings
        arn = str(self.elb.create_target_group(**asked)["TargetGroups"][0]["TargetGroupArn"])
        if backends:
            self.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": backend.ip} for backend in backends])
        return arn

    def listener(self, balancer: str, actions: list[dict[str, Any]]) -> tuple[str, str]:
        """A listener's ARN and its URL."""
        port = free_port()
        made = self.elb.create_listener(LoadBalancerArn=balancer, Port=port, Protocol="HTTP", DefaultActions=actions)
        return str(made["Listeners"][0]["ListenerArn"]), f"http://127.0.0.1:{port}"

    def states(self, group: str) -> list[tuple[str, str | None]]:
        """State and reason of every target of a group."""
        shown = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [(one["TargetHealth"]["State"], one["TargetHealth"].get("Reason")) for one in shown]

    def healthy(self, *groups: str) -> None:
        """Wait until every target of these groups is healthy."""
        for group in groups:
            wait_until(lambda group=group: {state for state, _ in self.states(group)} == {"healthy"})

    def serving(self, *backends: Backend) -> tuple[str, str, str]:
        """Load balancer, target group (both ARNs) and URL of a listener that forwards to healthy backends."""
        balancer, group = self.balancer(), self.group(*backends)
        _, url = self.listener(balancer, [forward(group)])
        self.healthy(group)
        return balancer, group, url


def forward(*groups: str, weights: tuple[int, ...] = (), **config: Any) -> dict[str, Any]:
    """A forward action."""
    weighted = [{"TargetGroupArn": arn, "Weight": weights[at] if weights else 1} for at, arn in enumerate(groups)]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": weighted, **config}}


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    """Waits until something holds."""
    return wait_until


@pytest.fixture(name="forward")
def forward_fixture() -> Callable[..., dict[str, Any]]:
    """Makes forward actions."""
    return forward


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """The parts, installed in moto and running."""
    with own_routes():
        yield from serve(tmp_path_factory)


def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    state_dir: Path = tmp_path_factory.mktemp("rehearsal")
    context = Context(Settings("111122223333", "eu-west-1", state_dir, seconds_per_minute=1.0), loop)
    balancing = Balancing(context)
    metering = Metering(context, balancing)
    balancing.install()
    metering.install()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    context.endpoint = "http://{}:{}".format(*server.get_host_and_port())
    context.run(balancing.start())
    context.run(metering.start())
    ec2 = context.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{at}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"]
        for at, zone in enumerate("ab")
    ]
    running = Rehearsal(context, balancing, [subnet["SubnetId"] for subnet in subnets], vpc_id)
    running.elb.describe_load_balancers()
    context.client("cloudwatch").describe_alarms()  # moto wires a service at its first call: now, to these parts
    yield running
    for backend in running.backends:
        if backend.runner is not None:
            context.run(backend.runner.cleanup())
    context.run(metering.stop())
    context.run(balancing.stop())
    server.stop()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
