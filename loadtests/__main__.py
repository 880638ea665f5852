"""`python -m loadtests`: a constant rate of golden requests for a while, and a JSON file of what was measured.

Exit code 0 whenever a result was written; what it means is judged elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events
from locust.env import Environment

from loadtests.locustfile import JSON_HEADERS, count_users, user_class
from loadtests.measuring import Measurements
from loadtests.payloads import payloads

PARENT_CHECK_S = 1.0


def main() -> None:
    """Run one load test."""
    options = parse()
    path, bodies = payloads(options.manifest, options.golden, options.kind)
    named = json.loads(options.headers.read_text()) if options.headers else {}
    headers = JSON_HEADERS | named | dict(_header(line) for line in options.header)
    users = count_users(options.rps)
    user = user_class(path, bodies, headers, options.rps / users)
    user.host = options.url.rstrip("/")
    result = run(user, users, options.warmup_s, options.duration_s)
    _write(options.output, result)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the listener")
    parser.add_argument("--manifest", type=Path, required=True, help="the model's manifest.json")
    parser.add_argument("--golden", type=Path, required=True, help="the published golden.npz")
    parser.add_argument("--kind", choices=("predict", "infer"), default="predict")
    parser.add_argument("--rps", type=float, default=50)
    parser.add_argument("--duration-s", type=float, default=60)
    parser.add_argument("--warmup-s", type=float, default=2, help="sent before, not measured")
    parser.add_argument("--header", action="append", default=[], metavar="'K: V'")
    parser.add_argument("--headers", type=Path, help="JSON file of headers; secrets here show in no process list")
    parser.add_argument("--output", type=Path, required=True, help="where the JSON result goes")
    return parser.parse_args()


def run(user: type[FastHttpUser], users: int, warmup_s: float, duration_s: float) -> dict[str, Any]:
    """Warm up, measure, stop; what was measured."""
    environment = Environment(user_classes=[user], events=events, stop_timeout=5)
    runner = environment.create_local_runner()
    measurements = Measurements(measure_from_s=time.monotonic() + warmup_s)

    def on_request(response: Any, response_time: float, exception: object, **_: Any) -> None:
        measurements.add(response, response_time, exception)

    environment.events.request.add_listener(on_request)
    gevent.spawn(_end_with_parent, os.getppid())
    gevent.signal_handler(signal.SIGTERM, os._exit, 143)
    runner.start(users, spawn_rate=max(users / max(warmup_s, 0.5), 1.0))
    gevent.sleep(warmup_s + duration_s)
    runner.stop()  # waits for the answers that are still under way, and counts them
    return measurements.as_result(duration_s)


def _end_with_parent(parent: int) -> None:
    """No load without somebody who waits for its result."""
    while os.getppid() == parent:
        gevent.sleep(PARENT_CHECK_S)
    os._exit(1)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _write(path: Path, result: dict[str, Any]) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(result, indent=1))
    unfinished.replace(path)


if __name__ == "__main__":
    main()
