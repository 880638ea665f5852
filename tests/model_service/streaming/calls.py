"""How the tests open streams, what they send, and how they read what comes."""

import contextlib
import json
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.model_service.conftest import Service

WIDTH = 256


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


def until_closed(stream: ClientConnection) -> tuple[int, str, list[Any]]:
    """The code and reason with which the server closes, and the messages before."""
    answers = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            answers.append(json.loads(stream.recv(30)))
    assert stream.close_code is not None
    return stream.close_code, stream.close_reason or "", answers


async def send_all(stream: AsyncConnection, frames: Iterable[bytes]) -> None:
    for frame in frames:
        await stream.send(frame)
