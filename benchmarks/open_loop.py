"""An open loop: requests are sent at their own times, whatever has been answered, as users do.

Times between requests are exponential (Poisson arrivals). A latency counts from the time at which the request was meant
to be sent, so that a late generator cannot hide a slow server. One process, one connection per request in flight:

    python -m benchmarks.open_loop PORT DIRECTORY RATE_PER_S DURATION_S SEED

sends the whole requests in DIRECTORY in rotation, and writes the outcomes as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import cast

import httptools
import uvloop

TIMED_OUT, BROKEN = "timed out", "broken"


@dataclass(frozen=True)
class Outcome:
    """`status` is an HTTP status, TIMED_OUT or BROKEN; seconds since the start of the run."""

    status: int | str
    intended_s: float
    ended_s: float

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.intended_s


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None
        self.is_reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> asyncio.Future[int]:
        """The future status of the answer, set when its body is here."""
        self.parser = httptools.HttpResponseParser(self)
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        # An answer before the request's last byte leaves a connection that is of no more use.
        self.is_reusable = self.parser.should_keep_alive() and self.transport.get_write_buffer_size() == 0
        if self.answer and not self.answer.done():
            self.answer.set_result(self.parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self.is_reusable = False
        if self.answer and not self.answer.done():
            self.answer.set_exception(error or ConnectionResetError("closed without an answer"))

    def close(self) -> None:
        self.transport.abort()


@dataclass
class Generator:
    """Sends `requests` in rotation to a port of this machine."""

    port: int
    requests: Sequence[bytes]
    timeout_s: float = 30.0
    idle: list[Connection] = field(default_factory=list)

    async def offer(self, rate_per_s: float, duration_s: float, seed: int) -> list[Outcome]:
        """Offer so many requests per second for so long; the outcomes of all, when the last has ended."""
        started = time.monotonic()  # the loop's own clock ticks in milliseconds
        sent = []
        for turn, intended_s in enumerate(arrivals(rate_per_s, duration_s, seed)):
            await asyncio.sleep(started + intended_s - time.monotonic())
            request = self.requests[turn % len(self.requests)]
            sent.append(asyncio.create_task(self._send(request, started, intended_s)))
        outcomes = await asyncio.gather(*sent)
        for connection in self.idle:
            connection.close()
        return outcomes

    async def _send(self, request: bytes, started: float, intended_s: float) -> Outcome:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(started + intended_s + self.timeout_s - time.monotonic()):
                connection = await self._connection()
                status: int | str = await connection.send(request)
        except TimeoutError:
            status = TIMED_OUT
        except (OSError, httptools.HttpParserError):
            status = BROKEN
        outcome = Outcome(status, intended_s, time.monotonic() - started)
        if connection and isinstance(status, int) and connection.is_reusable:
            self.idle.append(connection)
        elif connection:
            connection.close()
        return outcome

    async def _connection(self) -> Connection:
        while self.idle:
            if (connection := self.idle.pop()).is_reusable:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection


def arrivals(rate_per_s: float, duration_s: float, seed: int) -> Iterator[float]:
    """The intended times of a Poisson process, the same for the same seed."""
    times = random.Random(seed)  # noqa: S311 - load, not a secret
    now_s = times.expovariate(rate_per_s)
    while now_s < duration_s:
        yield now_s
        now_s += times.expovariate(rate_per_s)


def main(port: str, directory: str, rate_per_s: str, duration_s: str, seed: str) -> None:
    requests = [path.read_bytes() for path in sorted(Path(directory).glob("*.http"))]
    outcomes = uvloop.run(Generator(int(port), requests).offer(float(rate_per_s), float(duration_s), int(seed)))
    print(json.dumps([astuple(outcome) for outcome in outcomes]))  # noqa: T201 - what the parent reads


if __name__ == "__main__":
    main(*sys.argv[1:])
