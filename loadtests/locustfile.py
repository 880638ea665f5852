"""The users: each posts golden rows at its own constant rate, so that a slow server does not get fewer requests.

Also a Locust file: `locust -f loadtests/locustfile.py` with LOADTEST_MANIFEST and LOADTEST_GOLDEN set opens
Locust's own page.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, task

from loadtests.pacing import Pace, offset_s
from loadtests.payloads import payloads

RATE_PER_USER = 2.0
# A user waits for its answer before it sends again; with this many users the rate holds up to 0.5 s an answer.
JSON_HEADERS = {"Content-Type": "application/json"}
NEW, LIVE = "new", "live"  # the names under which answers are counted


@dataclass(frozen=True)
class Listener:
    """Where requests go, with the headers that go there and nowhere else."""

    name: str
    url: str
    headers: dict[str, str]


def count_users(rps: float) -> int:
    """How many users send `rps` requests a second together, each at most RATE_PER_USER."""
    return max(1, math.ceil(rps / RATE_PER_USER))


class SteadyUser(FastHttpUser):
    """A user with turns of its own, `turns_per_s` of them."""

    abstract = True
    insecure = False  # Locust's own default verifies no certificate, and a secret is among the headers
    connection_timeout = 10.0
    network_timeout = 30.0
    max_retries = 0
    turns_per_s: float
    indices: Iterator[int]
    pace: Pace

    def on_start(self) -> None:
        offset = offset_s(next(self.indices), self.turns_per_s)
        self.pace = Pace(self.turns_per_s, time.monotonic() + offset)
        gevent.sleep(offset)

    def wait_time(self) -> float:
        return self.pace.wait_s(time.monotonic())

    def post_to(self, listener: Listener, path: str, body: bytes) -> None:
        """One request. A redirect is an answer like any other: the headers follow it nowhere."""
        url = listener.url.rstrip("/") + path
        self.client.post(url, data=body, headers=listener.headers, name=listener.name, allow_redirects=False)


def user_class(listener: Listener, path: str, bodies: list[bytes], requests_per_s: float) -> type[FastHttpUser]:
    """A user that posts the bodies in turn, `requests_per_s` times a second."""
    turns = itertools.cycle(bodies)

    class GoldenUser(SteadyUser):
        host = listener.url or None
        turns_per_s = requests_per_s
        indices = itertools.count()

        @task
        def post(self) -> None:
            self.post_to(listener, path, next(turns))

    return GoldenUser


def pair_class(
    listeners: tuple[Listener, Listener], path: str, bodies: list[bytes], pairs_per_s: float
) -> type[FastHttpUser]:
    """A user that posts each body to both listeners, one right after the other, and takes turns in who is first."""
    turns = zip(itertools.cycle(bodies), itertools.cycle((listeners, listeners[::-1])))

    class PairUser(SteadyUser):
        host = listeners[0].url
        turns_per_s = pairs_per_s
        indices = itertools.count()

        @task
        def post(self) -> None:
            body, order = next(turns)
            for listener in order:
                self.post_to(listener, path, body)

    return PairUser


def _from_environment() -> dict[str, Any]:
    manifest, golden = os.environ.get("LOADTEST_MANIFEST"), os.environ.get("LOADTEST_GOLDEN")
    if not manifest or not golden:
        return {}
    path, bodies = payloads(Path(manifest), Path(golden), os.environ.get("LOADTEST_KIND", "predict"))

    # Without a URL of its own it takes the host that is typed on Locust's page.
    return {"GoldenUser": user_class(Listener(NEW, "", JSON_HEADERS), path, bodies, RATE_PER_USER)}


globals().update(_from_environment())
