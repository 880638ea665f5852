"""A stream's frames: what a request's frame holds, and the frame that answers it.

A text frame is the JSON of the Open Inference Protocol. A binary frame is a little-endian uint32, the length of the
JSON, then the JSON, then the raw tensors in the order in which the JSON names them: the binary tensor data extension,
with the length in the frame because there is no header. A length of 0 leaves the rest to the model's only input.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from model_service.errors import RequestRefused
from model_service.inference.body import Body
from model_service.inference.classification import LabelsOf
from model_service.inference.infer import InferWork
from model_service.inference.protocol import decode_json
from model_service.runtime.model import Model
from model_service.scheduling.job import Answer, Inputs
from model_service.tensors import Array

Frame = str | bytes
LENGTH = struct.Struct("<I")


class FrameWork:
    """The inference request in one `frame`, which is `binary` or text."""

    __slots__ = ("_binary", "_frame", "_infer", "_labels_of", "_max_rows", "_model", "request_id")

    def __init__(self, model: Model, frame: bytes, *, binary: bool, max_rows: int, labels_of: LabelsOf) -> None:
        self._model = model
        self._frame = frame
        self._binary = binary
        self._max_rows = max_rows
        self._labels_of = labels_of
        self._infer: InferWork | None = None
        self.request_id: str | None = None  # the `id` of the request, once it is read

    def read(self) -> Inputs:
        """The request's inputs."""
        content, length = _split(self._frame) if self._binary else (self._frame, None)
        self._frame = b""
        # No encoding and no limit: a frame is not compressed, and its size was checked as it came.
        body = Body(content, b"", len(content))
        json_length = None if length is None else b"%d" % length
        self._infer = InferWork(self._model, body, json_length, self._max_rows, self._labels_of)
        try:
            inputs = self._infer.read()
        except RequestRefused:
            self.request_id = _id_in(memoryview(content)[:length])
            raise
        self.request_id = self._infer.request_id
        return inputs

    def write(self, outputs: Mapping[str, Array], compute_s: float) -> Answer:
        """The answer's JSON, and its binary tensors."""
        assert self._infer is not None  # it has been read
        return self._infer.write(outputs, compute_s)


def answer_frame(answer: Answer) -> Frame:
    """The frame of an answer: binary if a tensor follows its JSON, else text."""
    if answer.json_length is None:
        return answer.body.decode()
    return LENGTH.pack(answer.json_length) + answer.body


def error_frame(error: RequestRefused, request_id: str | None) -> Frame:
    """The frame that stands in an answer's place."""
    members: dict[str, Any] = {"error": error.message, "status": error.status}
    if error.retry_after_s:
        members["retry_after_s"] = error.retry_after_s
    if request_id is not None:
        members["id"] = request_id
    return orjson.dumps(members).decode()


def going_away_frame(deadline_s: float) -> Frame:
    """The notice that the server will close the stream in `deadline_s`."""
    return orjson.dumps({"type": "going_away", "deadline_ms": round(deadline_s * 1000)}).decode()


class _WithId(msgspec.Struct):
    id: Any = None


_ID_DECODER = msgspec.json.Decoder(_WithId)


def _id_in(json: memoryview) -> str | None:
    """The `id` of a request that cannot be used, where that much of it can be read."""
    try:
        found = decode_json(json, _ID_DECODER).id
    except RequestRefused:
        return None
    return found if isinstance(found, str) else None


def _split(frame: bytes) -> tuple[bytes, int]:
    """What stands behind the length, and the length."""
    if len(frame) < LENGTH.size:
        raise RequestRefused(400, f"a binary frame begins with {LENGTH.size} bytes, the length of its JSON")
    (length,) = LENGTH.unpack_from(frame)
    left = len(frame) - LENGTH.size
    if length > left:
        raise RequestRefused(400, f"the frame says that its JSON has {length} bytes, where {left} follow")
    return frame[LENGTH.size :], length
