"""What the parts of the rehearsal share: settings, the one event loop, made-up addresses, and clients.

The parts meet at the AWS endpoint itself: the CloudFormation engine creates a listener by calling ELBv2, the ECS
scheduler shifts weights by calling ELBv2, and so on. Moto answers in threads; everything that happens over time
happens in the one loop.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rehearsal.outage import Outages

if TYPE_CHECKING:
    import boto3

T = TypeVar("T")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """How one rehearsal is set up. `seconds_per_minute`: real seconds that stand for one AWS minute of bake,
    canary and linear steps and alarm periods; nothing else is compressed."""

    account: str
    region: str
    state_dir: Path
    seconds_per_minute: float = 2.0
    engine: str = "process"


@dataclass
class AddressBook:
    """Where a task's made-up ENI address really listens: (ip, container port) -> loopback port."""

    _ports: dict[tuple[str, int], int] = field(default_factory=dict)
    _tasks: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, ip: str, ports: dict[int, int], task_arn: str) -> None:
        """Make `ip` known: container port -> loopback port."""
        with self._lock:
            self._ports.update({(ip, container): real for container, real in ports.items()})
            self._tasks[ip] = task_arn

    def remove(self, ip: str) -> None:
        """Forget where `ip` listens; whose address it was stays known for the access log."""
        with self._lock:
            self._ports = {key: port for key, port in self._ports.items() if key[0] != ip}

    def real_port(self, ip: str, port: int) -> int | None:
        """The loopback port behind `ip:port`, or None when nothing listens there (any more)."""
        with self._lock:
            return self._ports.get((ip, port))

    def task_arn(self, ip: str) -> str | None:
        """The task whose address `ip` is or was."""
        with self._lock:
            return self._tasks.get(ip)


@dataclass
class Context:
    """Handed to every part. `endpoint` is set once the API server listens, before any part's `start`.

    `aws`: the WSGI application behind the endpoint. With it the parts' own calls need no connection; without it they
    go over HTTP like everyone's.
    """

    settings: Settings
    loop: asyncio.AbstractEventLoop
    addresses: AddressBook = field(default_factory=AddressBook)
    outages: Outages = field(default_factory=Outages)
    endpoint: str = ""
    aws: Callable[..., Iterable[bytes]] | None = None
    registry: str = ""
    names: set[str] = field(default_factory=set)
    """Addresses of this machine, beside loopback's, under which the tasks reach the endpoint."""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    """How the open questions are answered (ecs/questions.py), by name, for the parts that do not ask them."""
    reserved: dict[int, socket.socket] = field(default_factory=dict)
    """Sockets bound, not listening, to the ports kept free for the load balancer's listeners."""
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _session: boto3.session.Session | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client of this rehearsal's own endpoint; boto3 calls block, so use `call` inside the loop."""
        with self._lock:
            key = (service, region or self.settings.region)
            if key not in self._clients:
                self._clients[key] = self._new_client(*key)
            return self._clients[key]

    def _new_client(self, service: str, region: str) -> Any:
        # Not at the top: `rehearsal status` and `down` need the settings alone, and are there in a tenth of the time.
        import boto3
        from botocore.config import Config

        from rehearsal.in_process import answered_by

        # One session for all: each reads botocore's list of endpoints anew, a tenth of a second.
        self._session = self._session or boto3.session.Session("rehearsal", "rehearsal")
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=32, s3={"addressing_style": "path"})
        client = self._session.client(service, region, endpoint_url=self.endpoint, config=config)
        if self.aws:
            client.meta.events.register("before-send", answered_by(self.aws))
        return client

    async def call(self, service: str, operation: str, /, **request: Any) -> dict[str, Any]:
        """One AWS call from inside the loop, made in a thread."""
        return await asyncio.to_thread(getattr(self.client(service), operation), **request)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """From one of moto's threads: run `work` in the loop and wait for what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def minutes(self, aws_minutes: float) -> float:
        """Real seconds for a number of AWS minutes."""
        return aws_minutes * self.settings.seconds_per_minute
