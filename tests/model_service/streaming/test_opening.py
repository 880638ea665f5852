"""How a stream begins, and what is refused before it is one."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.model_service.conftest import Launch, Service, sha256
from tests.model_service.streaming.calls import open_stream, refusal, text, url


def test_what_cannot_be_streamed_is_refused_before_it_is_a_stream(echo: Service) -> None:
    """An unknown model, version or path is a 404 with its reason; a version that is served can be named."""
    version = echo.get("/v2/models/echo").json["versions"][0]
    assert (404, "unknown model `nope`; this server has `echo`") == refusal(echo, "/v2/models/nope/stream")
    unknown = f"unknown version `7`; `echo` has `{version}`"
    assert (404, unknown) == refusal(echo, "/v2/models/echo/versions/7/stream")
    assert (404, "no such path for a WebSocket: /predict") == refusal(echo, "/predict")
    with connect(url(echo, f"/v2/models/echo/versions/{version}/stream")) as stream:
        stream.send(text(np.ones((1, 1), np.float32), "a"))
        assert version == json.loads(stream.recv(10))["model_version"]


def test_a_plain_request_is_told_what_a_stream_is(echo: Service) -> None:
    """GET without an upgrade is 426; POST with one is an ordinary request, which has no such path."""
    assert 426 == echo.get("/v2/models/echo/stream").status
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert 405 == echo.request("POST", "/v2/models/echo/stream", None, upgrade).status
    assert 426 == echo.request("GET", "/v2/models/echo/stream", None, upgrade | {"Upgrade": "h2c"}).status


def test_a_handshake_that_cannot_be_read_is_answered(echo: Service) -> None:
    """Neither a missing key nor too many headers leave a connection hanging."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert 400 == echo.request("GET", "/v2/models/echo/stream", None, upgrade).status
    many = {f"X-{number}": "1" for number in range(200)}
    assert 400 == echo.request("GET", "/v2/models/echo/stream", None, upgrade | many).status


@pytest.mark.parametrize("hot_path", ["on", "off"])
def test_a_connection_may_become_a_stream(launch: Launch, echo_manifest: Path, hot_path: str) -> None:
    """A connection that has carried requests can be upgraded, and they were counted once."""
    service = launch(echo_manifest, HOT_PATH=hot_path).wait_ready()
    body = text(np.ones((1, 1), np.float32), "a").encode()
    with socket.create_connection(("127.0.0.1", service.ports["port"]), timeout=20) as connection:
        head = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        received = b""
        while b'"outputs"' not in received:
            received += connection.recv(65536)
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        upgrade = f"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
        connection.sendall(f"GET /v2/models/echo/stream HTTP/1.1\r\n{upgrade}".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert 1 == service.metrics_value("nv_inference_request_success")


@pytest.mark.parametrize("hot_path", ["on", "off"])
def test_messages_may_follow_the_handshake_at_once(launch: Launch, echo_manifest: Path, hot_path: str) -> None:
    """What a caller sends before it has seen that its stream is accepted is answered after that, in order."""
    service = launch(echo_manifest, HOT_PATH=hot_path).wait_ready()
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    upgrade = f"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
    handshake = f"GET /v2/models/echo/stream HTTP/1.1\r\n{upgrade}".encode()
    ping = bytes([0x89, 0x81, 0, 0, 0, 0]) + b"p"
    message = text(np.ones((1, 1), np.float32), "early").encode()
    frame = bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message
    with socket.create_connection(("127.0.0.1", service.ports["port"]), timeout=20) as connection:
        connection.sendall(handshake + ping + frame + frame)
        received = b""
        while received.count(b'"early"') < 2:
            received += connection.recv(65536)
    answer, _, frames = received.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert frames.startswith(bytes([0x8A, 1]) + b"p")


def test_a_refused_stream_is_no_fault_of_ours(launch: Launch, echo_manifest: Path) -> None:
    """A stream that is refused before its upgrade has its line in the log, and no other."""
    service = launch(echo_manifest).wait_ready()
    assert 404 == refusal(service, "/v2/models/nope/stream")[0]
    assert 403 == refusal(service, "/v2/models/echo/stream", origin="https://app.example.com")[0]
    service.wait_until(lambda: [line for line in service.log() if line.get("status") == 403], "logged")
    assert 0 == service.stop()
    assert [] == [line for line in service.log() if line["level"] not in ("info", "debug")]


def test_the_subprotocol_is_taken_when_it_is_offered(echo: Service) -> None:
    """model-service.v1 is chosen among others; without it none is."""
    with open_stream(echo, "echo", subprotocols=["other", "model-service.v1"]) as stream:
        assert "model-service.v1" == stream.subprotocol
    with open_stream(echo, "echo") as stream:
        assert stream.subprotocol is None


def test_foreign_pages_are_refused(launch: Launch, echo: Service, echo_manifest: Path) -> None:
    """A browser's page of another host gets 403, unless STREAM_ORIGINS names it."""
    own = f"http://127.0.0.1:{echo.ports['port']}"
    with open_stream(echo, "echo", origin=own):
        pass
    status, error = refusal(echo, "/v2/models/echo/stream", origin="https://app.example.com")
    assert (403, True) == (status, "https://app.example.com" in error)
    service = launch(echo_manifest, STREAM_ORIGINS="https://app.example.com").wait_ready()
    with open_stream(service, "echo", origin="https://app.example.com"):
        pass


def test_only_so_many_streams_are_open(launch: Launch, echo_manifest: Path) -> None:
    """The one too many gets 503 with Retry-After before it is a stream; when another ends there is room."""
    service = launch(echo_manifest, STREAM_MAX_SESSIONS="2").wait_ready()
    with open_stream(service, "echo"):
        with open_stream(service, "echo"):
            assert (503, "2 streams are open already") == refusal(service, "/v2/models/echo/stream")
        service.wait_until(lambda: service.metrics_value("model_service_stream_sessions") == 1, "left by one")
        with open_stream(service, "echo"):
            pass


def test_a_stream_needs_a_key(launch: Launch, echo_manifest: Path, tmp_path: Path) -> None:
    """Where keys are asked for, a stream without one is 401 before it is a stream; browsers, which can set no headers,
    bring it as a subprotocol, which is never sent back."""
    (tmp_path / "keys").write_text(json.dumps({"keys": [{"id": "app", "sha256": sha256(b"k-app")}]}))
    service = launch(echo_manifest, API_KEYS_FILE=str(tmp_path / "keys")).wait_ready()
    for wrong in ({}, {"subprotocols": ["model-service.v1", "bearer.wrong"]}):
        status, error = refusal(service, "/v2/models/echo/stream", **wrong)
        assert (401, True) == (status, "a good API key is needed" in error)
    with open_stream(service, "echo", additional_headers={"Authorization": "Bearer k-app"}):
        pass
    with open_stream(service, "echo", subprotocols=["bearer.k-app", "model-service.v1"]) as stream:
        assert "model-service.v1" == stream.subprotocol
