"""Offers to go on in another protocol, which are passed over: the hot path and the ordinary one answer all the same."""

import json
from collections.abc import Iterator

import pytest

from tests.model_service.conftest import Service
from tests.model_service.connection import ROW, Connection, request

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
INFER_ROW = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def connection(digits: Service) -> Iterator[Connection]:
    made = Connection(digits)
    yield made
    made.close()


@pytest.mark.parametrize(
    "offer",
    [
        H2C,
        ("Connection: Upgrade", "Upgrade: foo"),
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
        ("Upgrade: h2c",),
    ],
    ids=["h2c", "foo", "websocket", "without Connection"],
)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["whole", "chunked"])
def test_an_offer_to_upgrade_is_no_obstacle(connection: Connection, offer: tuple[str, ...], is_chunked: bool) -> None:
    """Who offers another protocol, as curl --http2 and Java's HttpClient do, is answered in this one, and goes on."""
    for path, content in (("/predict", ROW), ("/v2/models/digits/infer", json.dumps(INFER_ROW).encode())):
        if is_chunked:
            head = "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *offer, "", ""))
            asked = head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        else:
            asked = request(content, path, *offer)
        connection.send(asked)
        assert 200 == connection.answer()[0]
        connection.send(asked + request() + HEALTH + asked)
        assert [200] * 4 == [connection.answer()[0] for _ in range(4)]
        for byte in asked:
            connection.send(bytes([byte]))
        assert 200 == connection.answer()[0]


def test_an_offer_to_upgrade_keeps_what_else_is_asked(connection: Connection) -> None:
    """The request is the one that was sent: its id, Expect and Connection: close are heeded."""
    connection.send(request(ROW, "/predict", "Connection: Upgrade", "Upgrade: h2c", "X-Request-Id: up", "X-Empty:"))
    assert "up" == connection.answer()[1]["x-request-id"]
    head, body = request(ROW, "/predict", *H2C, "Expect: 100-continue").split(b"\r\n\r\n", 1)
    connection.send(head + b"\r\n\r\n")
    assert b"HTTP/1.1 100 Continue\r\n" == connection.received.readline()
    connection.received.readline()
    connection.send(body)
    assert 200 == connection.answer()[0]
    connection.send(request(ROW, "/predict", "Connection: close, Upgrade", "Upgrade: h2c"))
    status, headers, _ = connection.answer()
    assert (200, "close") == (status, headers["connection"])
    assert connection.is_closed()


def test_an_offer_over_http_1_0_is_answered(connection: Connection) -> None:
    """An old client that offers something newer is still an old client."""
    connection.send(request(ROW, "/predict", *H2C).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert 200 == connection.answer()[0]
    assert connection.is_closed()


def test_a_tunnel_is_refused(connection: Connection) -> None:
    """CONNECT is for proxies: 400, and what follows is not taken for a request."""
    connection.send(b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n" + HEALTH)
    assert 400 == connection.answer()[0]
    assert connection.is_closed()
