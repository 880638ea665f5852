"""Streams: WebSockets whose messages are inferences, as the reference promises them."""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.model_service.conftest import REPOSITORY, Launch, Service, graph, identity, send, sha256, write_manifest

WIDTH = 256


def slow() -> bytes:
    """A model whose time grows with its rows, by some 0.1 ms for each: x -> y."""
    weight = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    nodes: list[onnx.NodeProto] = [helper.make_node("Constant", [], ["w"], value=weight)]
    names = ["x", *(f"h{number}" for number in range(40)), "y"]
    nodes += [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    shape = ["N", WIDTH]
    return graph(nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": (TensorProto.FLOAT, shape)})


@pytest.fixture(scope="module")
def slow_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("slow"), slow(), name="slow")


@pytest.fixture(scope="module")
def echo_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers with its input."""
    return write_manifest(tmp_path_factory.mktemp("echo"), identity(TensorProto.FLOAT, ["N", "M"]), name="echo")


@pytest.fixture(scope="module")
def echo(launch: Launch, echo_manifest: Path) -> Service:
    return launch(echo_manifest, MAX_BODY_BYTES="1000000").wait_ready()


@pytest.fixture
def stream(echo: Service) -> Iterator[ClientConnection]:
    with open_stream(echo, "echo") as connection:
        yield connection


def url(service: Service, path: str) -> str:
    return f"ws://127.0.0.1:{service.ports['port']}{path}"


def open_stream(service: Service, model: str, **options: Any) -> ClientConnection:
    return connect(url(service, f"/v2/models/{model}/stream"), max_size=None, compression=None, **options)


def refusal(service: Service, path: str, **options: Any) -> tuple[int, str]:
    """The status and the error with which a stream is refused."""
    with pytest.raises(InvalidStatus) as refused, connect(url(service, path), **options):
        pass
    response = refused.value.response
    assert {"x-request-id", "x-onnxship-release"} <= {name.lower() for name in response.headers}
    return response.status_code, json.loads(response.body or b"")["error"]


def text(array: np.ndarray, name: str) -> str:
    """A request in JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "data": array.ravel().tolist()}
    return json.dumps({"id": name, "inputs": [tensor]})


def binary(array: np.ndarray, name: str, **members: Any) -> bytes:
    """A request with a binary tensor, whose outputs are to be binary too."""
    parameters = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "parameters": parameters}
    head = json.dumps({"id": name, "inputs": [tensor], "parameters": {"binary_data_output": True}} | members).encode()
    return struct.pack("<I", len(head)) + head + array.tobytes()


def read_binary(frame: str | bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON of a binary frame, and what stands behind it."""
    assert isinstance(frame, bytes)
    (length,) = struct.unpack_from("<I", frame)
    return json.loads(frame[4 : 4 + length]), frame[4 + length :]


def rows(count: int, value: float = 0.0) -> np.ndarray:
    return np.full((count, WIDTH), value, np.float32)


def test_each_message_is_an_inference(stream: ClientConnection, echo: Service) -> None:
    """A text message is a body of /infer, and its answer is that of /infer."""
    body = text(np.array([[1.5, -2.0]], np.float32), "a")
    stream.send(body)
    assert echo.post("/v2/models/echo/infer", body.encode()).json == json.loads(stream.recv(10))


def test_binary_tensors_go_both_ways(stream: ClientConnection, echo: Service) -> None:
    """A binary frame is a length and a body of /infer with the binary extension; so is its answer."""
    array = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    frame = binary(array, "b")
    (length,) = struct.unpack_from("<I", frame)
    reply = echo.post("/v2/models/echo/infer", frame[4:], {"Inference-Header-Content-Length": str(length)})

    stream.send(frame)
    answer = stream.recv(10)

    head, tail = read_binary(answer)
    assert ("b", array.tobytes()) == (head["id"], tail)
    assert isinstance(answer, bytes)
    assert reply.body == answer[4:]


def test_answers_have_the_form_that_is_asked_for(stream: ClientConnection) -> None:
    """Binary input may have a JSON answer, and JSON input a binary one."""
    array = np.ones((1, 2), np.float32)
    stream.send(binary(array, "json", parameters={"binary_data_output": False}))
    assert [1.0, 1.0] == json.loads(stream.recv(10))["outputs"][0]["data"]
    asked = json.loads(text(array, "binary")) | {"parameters": {"binary_data_output": True}}
    stream.send(json.dumps(asked))
    assert array.tobytes() == read_binary(stream.recv(10))[1]


def test_a_raw_tensor_needs_no_json(launch: Launch, tmp_path: Path) -> None:
    """A length of 0 leaves the frame to the only input."""
    service = launch(write_manifest(tmp_path, identity(TensorProto.FLOAT, ["N", 3]))).wait_ready()
    with open_stream(service, "tiny") as stream:
        stream.send(struct.pack("<I3f", 0, 1, 2, 3))
        assert struct.pack("<3f", 1, 2, 3) == read_binary(stream.recv(10))[1]


def test_answers_come_in_the_order_of_messages(launch: Launch, slow_manifest: Path) -> None:
    """A small message behind a large one is answered behind it, although it is done before."""
    service = launch(slow_manifest, SLOTS="2", MAX_BATCH="1", WIDE_PATH="off").wait_ready()
    sizes = [2000, 1, 500, 1, 1, 1000, 1, 1]
    with open_stream(service, "slow") as stream:
        for number, size in enumerate(sizes):
            stream.send(binary(rows(size, number), str(number)))
        answers = [read_binary(stream.recv(60)) for _ in sizes]
    assert [str(number) for number in range(len(sizes))] == [head["id"] for head, _ in answers]
    assert [rows(size, number).tobytes() for number, size in enumerate(sizes)] == [tail for _, tail in answers]


def test_a_wrong_message_is_answered_and_the_stream_goes_on(stream: ClientConnection) -> None:
    """Each fault gets an error in its turn, with the message's id where it can be read."""
    good = text(np.ones((1, 1), np.float32), "good")
    unknown = json.dumps({"id": "i", "inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [1]}]})
    faults: list[tuple[str | bytes, str, str | None]] = [
        ("no json", "the body cannot be used", None),
        ('{"id": "a", "inputs": 3}', "Expected `array`, got `int` - at `$.inputs`", "a"),
        (unknown, "`z`", "i"),
        (b"", "a binary frame begins with 4 bytes", None),
        (struct.pack("<I", 10) + b"{}", "its JSON has 10 bytes, where 2 follow", None),
        (binary(np.ones((1, 1), np.float32), "long") + b"x", "1 bytes after its last tensor", "long"),
    ]
    for fault, _, _ in faults:
        stream.send(fault)
        stream.send(good)
    for fault, words, name in faults:
        error = json.loads(stream.recv(10))
        assert (400, name) == (error["status"], error.get("id")), fault
        assert words in error["error"]
        assert "good" == json.loads(stream.recv(10))["id"]


def test_fifty_streams_at_once(echo: Service) -> None:
    """Every stream gets the answers to its own messages."""

    def talk(number: int) -> None:
        with open_stream(echo, "echo") as stream:
            ready.wait(30)
            for turn in range(20):
                stream.send(text(np.array([[number, turn]], np.float32), f"{number}-{turn}"))
            answers = [json.loads(stream.recv(30)) for _ in range(20)]
        expected = [(f"{number}-{turn}", [number, turn]) for turn in range(20)]
        agreed.append(expected == [(answer["id"], answer["outputs"][0]["data"]) for answer in answers])

    agreed: list[bool] = []
    ready = threading.Barrier(51)
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    assert 50 == echo.metrics_value("model_service_stream_sessions")
    for thread in threads:
        thread.join()
    assert [True] * 50 == agreed
    echo.wait_until(lambda: echo.metrics_value("model_service_stream_sessions") == 0, "without streams")


def test_messages_are_counted_and_the_stream_is_logged(launch: Launch, echo_manifest: Path) -> None:
    """Each message is a request of the endpoint `stream`; the log has one line for the stream, at its end."""
    service = launch(echo_manifest).wait_ready()
    with open_stream(service, "echo", additional_headers={"X-Request-Id": "s1"}) as stream:
        assert stream.response is not None
        assert ("s1", "r1") == (stream.response.headers["x-request-id"], stream.response.headers["x-onnxship-release"])
        for message in (text(np.ones((1, 1), np.float32), "a"), "wrong"):
            stream.send(message)
            stream.recv(10)
    (line,) = service.lines_of("s1", 1)
    seen = {name: line[name] for name in ("message", "model", "path", "status", "messages", "errors", "close_code")}
    expected = {"message": "stream", "model": "echo", "path": "/v2/models/echo/stream", "status": 101, "messages": 2}
    assert expected | {"errors": 1, "close_code": 1000} == seen
    assert "duration_s" in line
    assert 'request_duration_seconds_count{endpoint="stream",model="echo"' in service.metrics()
    assert 1 == service.metrics_value("nv_inference_request_success")


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


def test_frames_are_not_compressed(echo: Service) -> None:
    """Who offers permessage-deflate is served without it."""
    with connect(url(echo, "/v2/models/echo/stream")) as stream:
        assert stream.response is not None
        assert "sec-websocket-extensions" not in stream.response.headers


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


@pytest.mark.parametrize("is_busy", [False, True], ids=["alone", "behind others"])
def test_a_frame_that_is_too_large_ends_the_stream(echo: Service, is_busy: bool) -> None:
    """A frame over MAX_BODY_BYTES is 1009, also in the middle of others, and harms nobody else."""
    with open_stream(echo, "echo") as stream:
        for _ in range(30 if is_busy else 0):
            stream.send(text(np.ones((1, 100), np.float32), "a"))
        with contextlib.suppress(ConnectionClosed):  # the server need not read all of it
            stream.send(bytes(4_000_000))
        assert 1009 == until_closed(stream)[0]
    with open_stream(echo, "echo") as stream:
        stream.send(text(np.ones((1, 1), np.float32), "a"))
        assert "a" == json.loads(stream.recv(10))["id"]


def test_a_caller_that_does_not_read_is_not_read_from(launch: Launch, echo_manifest: Path) -> None:
    """Answers that nobody takes hold up their own stream only; they all come when they are read."""
    service = launch(echo_manifest).wait_ready()
    array = np.zeros((200, 1000), np.float32)
    count = 60

    async def talk() -> list[str | bytes]:
        async with connect_async(url(service, "/v2/models/echo/stream"), max_queue=1, max_size=None) as stream:
            sender = asyncio.create_task(send_all(stream, [binary(array, str(number)) for number in range(count)]))
            await asyncio.sleep(1.0)
            assert service.metrics_value("nv_inference_request_success") < count
            other = service.post("/v2/models/echo/infer", text(np.ones((1, 1), np.float32), "x").encode())
            assert 200 == other.status
            answers = [await stream.recv() for _ in range(count)]
            await sender
            return answers

    answers = [read_binary(frame) for frame in asyncio.run(talk())]
    assert [str(number) for number in range(count)] == [head["id"] for head, _ in answers]
    assert {array.nbytes} == {len(tail) for _, tail in answers}


async def send_all(stream: AsyncConnection, frames: Iterable[bytes]) -> None:
    for frame in frames:
        await stream.send(frame)


def test_a_caller_that_never_reads_is_given_up(launch: Launch, echo_manifest: Path) -> None:
    """Who takes nothing for READ_TIMEOUT_S while answers wait loses the connection."""
    service = launch(echo_manifest, READ_TIMEOUT_S="0.5").wait_ready()
    frame = binary(np.zeros((500, 2000), np.float32), "a")

    async def talk() -> None:
        headers = {"X-Request-Id": "s2"}
        path = url(service, "/v2/models/echo/stream")
        async with connect_async(path, max_queue=1, max_size=None, additional_headers=headers) as stream:
            with pytest.raises(ConnectionClosed):
                await send_all(stream, itertools.repeat(frame))

    asyncio.run(talk())
    (line,) = service.lines_of("s2", 1)
    assert 1006 == line["close_code"]
    assert 0 == service.metrics_value("model_service_stream_sessions")


def test_work_leaves_with_its_caller(launch: Launch, slow_manifest: Path) -> None:
    """When a stream breaks, what waits of it is not run any more."""
    service = launch(slow_manifest, SLOTS="1", MAX_BATCH="1").wait_ready()
    with open_stream(service, "slow") as stream:
        for number in range(10):
            stream.send(binary(rows(2000), str(number)))
        service.wait_until(lambda: service.metrics_value("nv_inference_pending_request_count") > 5, "busy")
        stream.socket.shutdown(socket.SHUT_RDWR)
    service.wait_until(lambda: service.metrics_value("nv_inference_pending_request_count") == 0, "idle")
    assert service.metrics_value("nv_inference_exec_count") < 10


def test_an_idle_stream_is_closed(launch: Launch, echo_manifest: Path) -> None:
    """Pings keep a connection open, but nothing else for STREAM_IDLE_S ends it: 1001."""
    service = launch(echo_manifest, STREAM_IDLE_S="1").wait_ready()
    with open_stream(service, "echo") as stream:
        assert (1001, "idle for 1 s", []) == until_closed(stream)


def test_an_old_stream_is_told_to_come_again(launch: Launch, echo_manifest: Path) -> None:
    """After STREAM_MAX_SESSION_S the caller is told, is answered until the deadline, and gets 1012."""
    service = launch(echo_manifest, STREAM_MAX_SESSION_S="1", DRAIN_S="1").wait_ready()
    with open_stream(service, "echo") as stream:
        assert {"type": "going_away", "deadline_ms": 1000} == json.loads(stream.recv(10))
        stream.send(text(np.ones((1, 1), np.float32), "late"))
        assert "late" == json.loads(stream.recv(10))["id"]
        code, reason, answers = until_closed(stream)
    assert (1012, []) == (code, answers)
    assert reason.startswith("open for ")


def until_closed(stream: ClientConnection) -> tuple[int, str, list[Any]]:
    """The code and reason with which the server closes, and the messages before."""
    answers = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            answers.append(json.loads(stream.recv(30)))
    assert stream.close_code is not None
    return stream.close_code, stream.close_reason or "", answers


def test_sigterm_in_the_middle_of_a_stream(launch: Launch, echo_manifest: Path) -> None:
    """Streams are told, are answered until the deadline without a gap, get 1012, and then the process exits 0."""
    service = launch(echo_manifest, DRAIN_S="1.5").wait_ready()
    with open_stream(service, "echo") as stream:
        sender = threading.Thread(target=send_until_closed, args=(stream,), daemon=True)
        sender.start()
        service.wait_until(lambda: service.metrics_value("nv_inference_request_success") > 20, "busy")
        service.process.terminate()
        code, reason, messages = until_closed(stream)
        sender.join()
    notices = [message for message in messages if "type" in message]
    answered = [int(message["id"]) for message in messages if "id" in message]
    assert (1012, "the service is stopping") == (code, reason)
    assert [{"type": "going_away", "deadline_ms": 1500}] == notices
    assert list(range(len(answered))) == answered
    assert messages.index(notices[0]) < len(messages) - 10, "answered after it was told"
    assert 0 == service.process.wait(30)
    (line,) = [line for line in service.log() if line["message"] == "stream"]
    assert (len(answered), 1012) == (line["messages"], line["close_code"])


def send_until_closed(stream: ClientConnection) -> None:
    try:
        for number in itertools.count():
            stream.send(text(np.array([[number]], np.float32), str(number)))
            time.sleep(0.001)
    except ConnectionClosed:
        pass


def test_sigterm_answers_what_was_taken(launch: Launch, slow_manifest: Path) -> None:
    """What was taken before the deadline is answered, however long it takes, also for 20 streams at once."""
    service = launch(slow_manifest, DRAIN_S="0", SLOTS="1", MAX_BATCH="1").wait_ready()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_stream(service, "slow")) for _ in range(20)]
        for stream in streams:
            for number in range(3):
                stream.send(binary(rows(200), str(number), parameters={}, outputs=[{"name": "y"}]))
        service.wait_until(lambda: taken(service) == 60, "taken all messages")
        assert service.metrics_value("nv_inference_pending_request_count") > 20
        service.process.terminate()
        for stream in streams:
            code, _, messages = until_closed(stream)
            assert 1012 == code
            assert ["0", "1", "2"] == [message["id"] for message in messages if "id" in message]
    assert 0 == service.process.wait(30)


def taken(service: Service) -> float:
    names = ("nv_inference_pending_request_count", "nv_inference_request_success")
    return sum(service.metrics_value(name) for name in names)


def test_sigterm_does_not_wait_for_ever(launch: Launch, echo_manifest: Path) -> None:
    """A caller that does not take its answers holds the process up no longer than SHUTDOWN_S."""
    service = launch(echo_manifest, SHUTDOWN_S="1").wait_ready()
    frame = binary(np.zeros((500, 2000), np.float32), "a")

    async def talk() -> None:
        path = url(service, "/v2/models/echo/stream")
        async with connect_async(path, max_queue=1, max_size=None) as stream:
            sender = asyncio.create_task(send_all(stream, itertools.repeat(frame)))
            await asyncio.sleep(0.5)
            service.process.terminate()
            assert 0 == await asyncio.to_thread(service.process.wait, 30)
            with pytest.raises(ConnectionClosed):
                await sender

    asyncio.run(talk())


def test_a_stream_that_opens_while_it_drains_is_told_at_once(launch: Launch, echo_manifest: Path) -> None:
    """Until the load balancer has seen `not ready` new streams come; they are served and told what is left."""
    service = launch(echo_manifest, DRAIN_S="3").wait_ready()
    service.process.terminate()
    service.wait_until(lambda: service.get("/v2/health/ready").status == 503, "draining")
    with open_stream(service, "echo") as stream:
        stream.send(text(np.ones((1, 1), np.float32), "new"))
        first, second = (json.loads(stream.recv(10)) for _ in range(2))
        assert ("going_away", "new") == (first["type"], second["id"])
        assert 0 < first["deadline_ms"] < 3000
        assert 1012 == until_closed(stream)[0]
    assert 0 == service.process.wait(30)


def test_the_example_of_the_reference_runs(launch: Launch, digits_manifest: Path, digits_rows: np.ndarray) -> None:
    """The Python in the reference streams rows to the digits model and prints its labels."""
    service = launch(digits_manifest).wait_ready()
    page = (REPOSITORY / "docs/reference/model-service.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "websockets" in block]
    code = code.replace(":8080/", f":{service.ports['port']}/")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = {"inputs": [[0.0] * 64, [8.0] * 64]}
    labels = [one["prediction"] for one in service.post("/predict", rows).json["predictions"]]
    assert f"[('0', [{labels[0]}]), ('1', [{labels[1]}])]" == ran.stdout.strip()


def test_a_retired_version_takes_its_streams_along(launch: Launch, tmp_path: Path) -> None:
    """A stream stays on its version until that is retired; then it is told, answered, and closed with 1012. A new one
    has the new version."""
    put(tmp_path, TensorProto.FLOAT, ["N", "M"])
    service = launch(
        "", MODEL_REPOSITORY_URI=tmp_path.as_uri(), MODEL_CONTROL="explicit", LOAD_MODELS="echo", DRAIN_S="1"
    )
    service.wait_ready()
    with open_stream(service, "echo") as old:
        put(tmp_path, TensorProto.FLOAT, ["N", "K"])
        loading = threading.Thread(
            target=send, args=(service.ports["admin_port"], "POST", "/v2/repository/models/echo/load", b"{}")
        )
        before = asked_version(old)
        loading.start()
        assert {"type": "going_away", "deadline_ms": 1000} == json.loads(old.recv(10))
        with open_stream(service, "echo") as new:
            after = asked_version(new)
            assert before != after
            assert before == asked_version(old)
            assert (1012, "another version serves now", []) == until_closed(old)
            loading.join()
            assert after == asked_version(new)


def put(repository: Path, kind: int, shape: list[Any]) -> None:
    """Put a version of the model `echo` into the repository."""
    made = write_manifest(repository / ".incoming", identity(kind, shape), name="echo")
    shutil.copytree(made.parent, repository / "echo", dirs_exist_ok=True)


def asked_version(stream: ClientConnection) -> str:
    stream.send(text(np.ones((1, 1), np.float32), "a"))
    return str(json.loads(stream.recv(10))["model_version"])


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
