"""Right answers first: distinct requests at once, each answer against ONNX Runtime's own in this process."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.contenders import Contender
from benchmarks.errors import PeerDoesNotRun
from benchmarks.models import Work
from benchmarks.raw import session_of

CONCURRENT = 64
RTOL, ATOL = 1e-3, 1e-4


def expected_of(work: Work, model: Path) -> list[np.ndarray]:
    """ONNX Runtime's own answers to the work's rows."""
    session = session_of(str(model), 0)
    return [session.run(None, {work.input_name: rows})[0] for rows in work.rows()]


def verify(contender: Contender, expected: list[np.ndarray]) -> None:
    """Send every distinct request at once. Raises PeerDoesNotRun with the first wrong answer."""
    rows = contender.work.rows()
    with ThreadPoolExecutor(min(CONCURRENT, len(rows))) as pool:
        answers = list(pool.map(lambda row: ask(contender, row), rows))
    for number, (answer, right) in enumerate(zip(answers, expected, strict=True)):
        check(answer, right, f"request {number} of {len(rows)} at once")


def check(answer: np.ndarray, right: np.ndarray, what: str) -> None:
    """Raises PeerDoesNotRun unless the answer is ONNX Runtime's own."""
    if answer.shape != right.shape or not np.allclose(answer, right, RTOL, ATOL):
        raise PeerDoesNotRun(f"answers {what} wrongly")


def ask(contender: Contender, rows: np.ndarray) -> np.ndarray:
    """The answer to one row. Raises PeerDoesNotRun with the status and the body's start unless it is a 200."""
    request = contender.form.write(contender.work, rows)
    connection = http.client.HTTPConnection("127.0.0.1", contender.server.port, timeout=60)
    try:
        connection.request("POST", contender.form.path.format(model=contender.work.name), request.body, request.headers)
        response = connection.getresponse()
        body, headers = response.read(), {name.lower(): value for name, value in response.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        raise PeerDoesNotRun(f"does not answer: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise PeerDoesNotRun(f"answers {response.status}: {body[:200]!r}")
    try:
        return contender.form.read(body, headers)
    except (ValueError, LookupError, TypeError) as error:
        raise PeerDoesNotRun(f"answers 200 with what is no answer: {body[:200]!r}") from error
