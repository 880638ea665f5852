"""How large a request line with its headers may be, and how long it may take: on the hot path and the ordinary one."""

import contextlib
import itertools
import json
import threading
import time
from pathlib import Path

import pytest

from tests.model_service.conftest import Launch, Service
from tests.model_service.connection import ROW, Connection, request

HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def narrow(launch: Launch, digits_manifest: Path, hot_path: str) -> Service:
    """A service that takes few headers, and has little patience."""
    environment = {"MAX_HEADER_BYTES": "2000", "READ_TIMEOUT_S": "1", "HOT_PATH": hot_path}
    return launch(digits_manifest, **environment).wait_ready()


TOO_LARGE = {"error": "the request line and headers are larger than 2000 bytes"}


@pytest.mark.parametrize(
    "head",
    [
        f"GET /v2 HTTP/1.1\r\nHost: x\r\nX-A: {'a' * 2000}\r\n\r\n",
        f"GET /v2?{'a' * 2000} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v2 HTTP/1.1\r\nHost: x\r\n" + "a: b\r\n" * 400 + "\r\n",
        f"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: {'a' * 2000}\r\n\r\n",
        request(ROW, "/predict", f"X-A: {'a' * 2000}").decode(),
        f"GET /v2 HTTP/1.1\r\nHost: x\r\nX-A: {'a' * 500_000}",
    ],
    ids=["a header", "the address", "many headers", "a stream's", "an inference's", "without end"],
)
@pytest.mark.parametrize("piece_bytes", [300, 1_000_000], ids=["in pieces", "at once"])
def test_a_head_that_is_too_large_is_refused(narrow: Service, head: str, piece_bytes: int) -> None:
    """Request line and headers of more than MAX_HEADER_BYTES get 431 and the end of their connection."""
    connection = Connection(narrow)
    for start in range(0, len(head), piece_bytes):
        try:
            connection.send(head[start : start + piece_bytes].encode())
        except OSError:  # it has been answered, and closed
            break
    status, headers, body = connection.answer()
    assert (431, "close", TOO_LARGE) == (status, headers["connection"], json.loads(body))
    assert connection.is_closed()
    connection.close()
    assert 200 == narrow.post("/predict", ROW).status


def test_bodies_and_other_requests_do_not_count_as_headers(narrow: Service) -> None:
    """A large body, and many requests at once, are no large head; nor is one that just fits."""
    connection = Connection(narrow)
    large = request(b" " * 100_000 + ROW)
    connection.send(large[:50_000])
    connection.send(large[50_000:] + HEALTH * 100 + request(ROW, "/predict", "X-A: " + "a" * 1900)[:1000])
    connection.send(request(ROW, "/predict", "X-A: " + "a" * 1900)[1000:])
    assert {200} == {connection.answer()[0] for _ in range(102)}
    connection.close()


def test_answers_that_are_due_come_before_the_end(narrow: Service) -> None:
    """A head that is too large behind a good request does not take that one's answer away, or pass for it."""
    connection = Connection(narrow)
    connection.send(request() + b"GET /v2 HTTP/1.1\r\nX-A: " + b"a" * 300_000)
    statuses = []
    while line := connection.received.readline():
        if line.startswith(b"HTTP/1.1 "):
            statuses.append(int(line.split()[1]))
    assert statuses in ([200], [200, 431])
    connection.close()


def test_headers_behind_a_body_are_limited_too(narrow: Service) -> None:
    """A chunked body may be followed by headers, but not by any number of them."""
    connection = Connection(narrow)
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (
        len(ROW),
        ROW,
    )
    connection.send(chunked + b"X-Checksum: 1\r\n\r\n")
    assert 200 == connection.answer()[0]
    connection.send(chunked)
    for _ in range(100):
        try:
            connection.send(b"X-A: " + b"a" * 1000 + b"\r\n")
        except OSError:
            break
    assert connection.is_closed()
    connection.close()


@pytest.mark.parametrize("is_first", [True, False], ids=["at first", "behind a request"])
def test_headers_that_never_end_are_not_waited_for(narrow: Service, is_first: bool) -> None:
    """READ_TIMEOUT_S is what a head may take in all: a byte now and then does not lengthen it."""
    connection = Connection(narrow)
    if not is_first:
        connection.send(request())
        assert 200 == connection.answer()[0]
    connection.send(b"GET /v2 HTTP/1.1\r\nX-A: ")
    stopped = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not stopped.wait(0.1):
                connection.send(b"a")

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    assert connection.is_closed()
    stopped.set()
    dripping.join()
    connection.close()


def test_a_slow_body_is_waited_for(narrow: Service) -> None:
    """A body may take longer than READ_TIMEOUT_S, as long as it comes."""
    connection = Connection(narrow)
    content = request()
    cuts = [0, *range(len(content) - 60, len(content), 10), len(content)]
    for start, end in itertools.pairwise(cuts):
        connection.send(content[start:end])
        time.sleep(0.3)
    assert 200 == connection.answer()[0]
    connection.close()


def test_idle_connections_are_closed(launch: Launch, digits_manifest: Path, hot_path: str) -> None:
    """KEEP_ALIVE_S is what a connection may be idle, behind an answer and where nothing was ever asked."""
    service = launch(digits_manifest, KEEP_ALIVE_S="1", HOT_PATH=hot_path).wait_ready()
    silent, answered = Connection(service), Connection(service)
    answered.send(request())
    assert 200 == answered.answer()[0]
    assert silent.is_closed()
    assert answered.is_closed()
    silent.close()
    answered.close()
