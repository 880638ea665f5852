"""The users: each posts golden rows at its own constant rate, so that a slow server does not get fewer requests.

Also a Locust file: `locust -f loadtests/locustfile.py` with LOADTEST_MANIFEST and LOADTEST_GOLDEN set opens
Locust's own page.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_throughput, task

from loadtests.payloads import payloads

RATE_PER_USER = 2.0
# A user waits for its answer before it sends again; with this many users the rate holds up to 0.5 s an answer.
JSON_HEADERS = {"Content-Type": "application/json"}


def count_users(rps: float) -> int:
    """How many users send `rps` requests a second together, each at most RATE_PER_USER."""
    return max(1, math.ceil(rps / RATE_PER_USER))


def user_class(path: str, bodies: list[bytes], headers: dict[str, str], requests_per_s: float) -> type[FastHttpUser]:
    """A user that posts the bodies in turn to `path`, `requests_per_s` times a second."""
    turns: Iterator[bytes] = itertools.cycle(bodies)

    class GoldenUser(FastHttpUser):
        wait_time = constant_throughput(requests_per_s)
        connection_timeout = 10.0
        network_timeout = 30.0
        max_retries = 0

        @task
        def post(self) -> None:
            self.client.post(path, data=next(turns), headers=headers, name=path)

    return GoldenUser


def _from_environment() -> dict[str, Any]:
    manifest, golden = os.environ.get("LOADTEST_MANIFEST"), os.environ.get("LOADTEST_GOLDEN")
    if not manifest or not golden:
        return {}
    path, bodies = payloads(Path(manifest), Path(golden), os.environ.get("LOADTEST_KIND", "predict"))
    return {"GoldenUser": user_class(path, bodies, JSON_HEADERS, RATE_PER_USER)}


globals().update(_from_environment())
