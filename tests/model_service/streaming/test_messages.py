"""What goes over a stream: each message an inference, as the reference promises."""

import asyncio
import contextlib
import json
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.model_service.conftest import REPOSITORY, Launch, Service, identity, write_manifest
from tests.model_service.streaming.calls import (
    binary,
    open_stream,
    read_binary,
    rows,
    send_all,
    text,
    until_closed,
    url,
)


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


def test_frames_are_not_compressed(echo: Service) -> None:
    """Who offers permessage-deflate is served without it."""
    with connect(url(echo, "/v2/models/echo/stream")) as stream:
        assert stream.response is not None
        assert "sec-websocket-extensions" not in stream.response.headers


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
