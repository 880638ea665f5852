"""`python -m loadtests`: a constant rate of requests for a while, and a JSON file of what was measured.

With `--against` a second part follows the load, in the same process: each body goes to both listeners, one right after
the other, at the same rate. Both see the same moments then, and neither is under a load that the other is not.
The file holds the load's figures, and in `beside` and `against` the second part's, of `--url` and of `--against`.

Exit code 0 whenever a result was written; what it means is judged elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from locust import FastHttpUser
from locust.env import Environment

from loadtests.locustfile import JSON_HEADERS, LIVE, NEW, Listener, count_users, pair_class, user_class
from loadtests.measuring import Measurements
from loadtests.payloads import payloads
from loadtests.resolving import resolve

PARENT_CHECK_S = 1.0
STOP_S = 5  # how long answers that are still under way are waited for


def main() -> None:
    """Run one load test."""
    options = parse()
    resolve(options.resolve, socket, gevent.socket)
    path, bodies = payloads(options.manifest, options.golden, options.kind, options.requests)
    new = Listener(NEW, options.url, _headers(options.headers) | dict(_header(line) for line in options.header))
    gevent.spawn(_end_with_parent, os.getppid())
    gevent.signal_handler(signal.SIGTERM, os._exit, 143)
    users = count_users(options.rps)
    load = user_class(new, path, bodies, options.rps / users)
    result = measure(load, users, options.warmup_s, options.duration_s)[NEW]
    if options.against:
        users = count_users(options.against_rps)
        live = Listener(LIVE, options.against, _headers(options.headers) if options.headers_to_both else {})
        pairs = pair_class((new, live), path, bodies, options.against_rps / users)
        measured = measure(pairs, users, options.warmup_s, options.against_s)
        result |= {"beside": measured[NEW], "against": measured[LIVE]}
    _write(options.output, result)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the listener")
    parser.add_argument("--manifest", type=Path, required=True, help="the model's manifest.json")
    parser.add_argument("--golden", type=Path, required=True, help="the published golden.npz")
    parser.add_argument("--kind", choices=("predict", "infer"), default="predict")
    parser.add_argument("--requests", type=Path, help="one body a line, sent in turn in place of the golden rows")
    parser.add_argument("--rps", type=float, default=50)
    parser.add_argument("--duration-s", type=float, default=60)
    parser.add_argument("--warmup-s", type=float, default=2, help="sent before each part, not measured")
    parser.add_argument("--header", action="append", default=[], metavar="'K: V'")
    parser.add_argument("--headers", type=Path, help="JSON file of headers; secrets here show in no process list")
    parser.add_argument("--against", metavar="URL", help="base URL of the listener to compare with")
    parser.add_argument("--headers-to-both", action="store_true", help="it gets those of --headers too, else none")
    parser.add_argument("--against-rps", type=float, default=10, help="pairs of requests a second")
    parser.add_argument("--against-s", type=float, default=30, help="how long pairs are sent")
    parser.add_argument("--resolve", action="append", default=[], metavar="HOST=IP[,IP]", help="instead of DNS")
    parser.add_argument("--output", type=Path, required=True, help="where the JSON result goes")
    return parser.parse_args()


def measure(user: type[FastHttpUser], users: int, warmup_s: float, duration_s: float) -> dict[str, dict[str, Any]]:
    """Warm up, measure, stop; what was measured, by the listener's name."""
    environment = Environment(user_classes=[user], stop_timeout=STOP_S)
    runner = environment.create_local_runner()
    begin = time.monotonic() + warmup_s
    measurements = {name: Measurements(measure_from_s=begin) for name in (NEW, LIVE)}

    def on_request(name: str, response: Any, response_time: float, exception: object, **_: Any) -> None:
        measurements[name].add(response, response_time, exception)

    environment.events.request.add_listener(on_request)
    runner.start(users, spawn_rate=max(users / max(warmup_s, 0.5), 1.0))
    gevent.sleep(warmup_s + duration_s)
    runner.quit()  # waits for the answers that are still under way, and counts them
    return {name: measured.as_result(duration_s) for name, measured in measurements.items()}


def _end_with_parent(parent: int) -> None:
    """No load without somebody who waits for its result."""
    while os.getppid() == parent:
        gevent.sleep(PARENT_CHECK_S)
    os._exit(1)


def _headers(path: Path | None) -> dict[str, str]:
    named: dict[str, str] = json.loads(path.read_text()) if path else {}
    return JSON_HEADERS | named


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _write(path: Path, result: dict[str, Any]) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(result, indent=1))
    unfinished.replace(path)


if __name__ == "__main__":
    main()
