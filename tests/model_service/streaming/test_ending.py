"""How a stream ends: by its caller, by time, by a new version, by SIGTERM."""

import asyncio
import contextlib
import itertools
import json
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.model_service.conftest import Launch, Service, identity, send, write_manifest
from tests.model_service.streaming.calls import (
    binary,
    open_stream,
    rows,
    send_all,
    text,
    until_closed,
    url,
)


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
