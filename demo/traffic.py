"""Users, as a process of their own: `python -m demo.traffic URL EXPECTED.npz OUTPUT.jsonl`, until standard input ends.

It ends with the process that holds the other end of that pipe, however that one ends. Requests leave on a fixed
schedule, whether or not earlier ones were answered (an open loop); every fifth holds two images. A request has failed
when there is no answer within 5 s, the connection is reset, the status is not 2xx, or the answer differs from the
recorded output of the release that gave it. One JSON line per request.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any, TextIO

import aiohttp
import numpy as np

REQUESTS_PER_SECOND = 40
BATCH_EVERY = 5
TIMEOUT_S = 5.0
CONFIDENCE_TOLERANCE = 1e-3
USER_AGENT = "digits-users/1"
RELEASE_HEADER = "X-Onnxship-Release"


async def send_until_told(url: str, expected: dict[str, np.ndarray], output: TextIO) -> None:
    """Send golden inputs in turn on the schedule; at the end of standard input wait for the last answers."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a Ctrl-C is for the story, which then closes the pipe
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, stop.set)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
    ) as session:
        sent: set[asyncio.Task[None]] = set()
        start, number = time.monotonic(), 0
        while not stop.is_set():
            rows = _rows(number, len(expected["X"]))
            task = asyncio.create_task(_one(session, f"{url}/predict", rows, expected, output))
            sent.add(task)
            task.add_done_callback(sent.discard)
            number += 1
            await asyncio.sleep(max(0.0, start + number / REQUESTS_PER_SECOND - time.monotonic()))
        await asyncio.gather(*sent)


def _rows(number: int, of: int) -> list[int]:
    """Which golden inputs the request with this number holds."""
    return [number % of, (number + 1) % of] if number % BATCH_EVERY == BATCH_EVERY - 1 else [number % of]


def body(rows: list[int], expected: dict[str, np.ndarray]) -> bytes:
    """The request for these golden inputs: one alone is an `input`, several are `inputs`."""
    images = [expected["X"][row].tolist() for row in rows]
    return json.dumps({"input": images[0]} if len(images) == 1 else {"inputs": images}).encode()


async def _one(
    session: aiohttp.ClientSession, url: str, rows: list[int], expected: dict[str, np.ndarray], output: TextIO
) -> None:
    started = time.time()
    release, reason = "", ""
    try:
        async with session.post(url, data=body(rows, expected)) as answer:
            text = await answer.text()
            release = answer.headers.get(RELEASE_HEADER, "")
            reason = f"status {answer.status}: {text[:200]}" if answer.status // 100 != 2 else ""
            reason = reason or difference(json.loads(text), release, rows, expected)
    except TimeoutError:
        reason = f"no answer within {TIMEOUT_S:g} s"
    except (aiohttp.ClientError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    ended = time.time()
    output.write(json.dumps({"start": started, "end": ended, "release": release, "failed": reason}) + "\n")


def difference(answer: dict[str, Any], release: str, rows: list[int], expected: dict[str, np.ndarray]) -> str:
    """In words how `answer` differs from what `release` was recorded to answer to `rows`; empty when it does not."""
    if f"label:{release}" not in expected:
        return f"answered by `{release}`, a release nobody shipped"
    answers = [answer] if len(rows) == 1 else answer.get("predictions", [])
    if len(answers) != len(rows):
        return f"{len(answers)} answers to {len(rows)} images"
    recorded = zip(rows, expected[f"label:{release}"][rows], expected[f"confidence:{release}"][rows], strict=True)
    return next(filter(None, map(_difference, answers, recorded)), "")


def _difference(answer: dict[str, Any], recorded: tuple[int, Any, Any]) -> str:
    row, label, confidence = recorded
    if answer.get("prediction") != label:
        return f"row {row}: prediction {answer.get('prediction')!r}, recorded {label}"
    if not abs(float(answer.get("confidence") or 0) - confidence) <= CONFIDENCE_TOLERANCE:
        return f"row {row}: confidence {answer.get('confidence')!r}, recorded {confidence:.6f}"
    return ""


def main(url: str, expected_path: str, output_path: str) -> None:
    with np.load(expected_path) as archive:
        expected = dict(archive)
    with open(output_path, "w", buffering=1) as output:
        asyncio.run(send_until_told(url, expected, output))


if __name__ == "__main__":
    main(*sys.argv[1:])
