"""A store that answers GETs as S3 does, until it is told to break, stall or lie."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_service.settings import Settings
from model_service.store.transfer import Transfer

KIB = 1024
# Parts and reads small enough that a model of 256 KiB has many of them.
QUICK = Transfer(
    connections=2,
    part_bytes=64 * KIB,
    min_part_bytes=64 * KIB,
    read_bytes=4 * KIB,
    connect_timeout_s=5,
    read_timeout_s=0.5,
    attempts=3,
    first_backoff_s=0.01,
)
CONTENT = np.random.default_rng(7).bytes(256 * KIB)


@dataclass(frozen=True)
class Asked:
    """One GET of the model's file."""

    start: int
    end: int
    if_match: str | None
    version_id: str | None


# Answers one GET in place of the store.
Fault = Callable[["Handler", bytes, Asked], None]


@dataclass
class FakeS3:
    """Objects by key. The next GET of the model's bytes from `start` on meets the first of `faults[start]`."""

    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    model_dir: Path = Path()
    stopping: threading.Event = field(default_factory=threading.Event)

    def publish(self, content: bytes = CONTENT, **members: Any) -> Settings:
        """A model of `content` and its manifest; `members` override what the manifest says of the file."""
        file = {
            "name": "model.onnx",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            "key": "model.onnx",
            "version_id": "v7",
        }
        manifest = json.dumps({"format": "onnxship.model/1", "name": "big", "files": [file | members]}).encode()
        self.objects |= {"model.onnx": content, "manifest.json": manifest}
        return Settings(
            "s3://bucket/manifest.json", "v1", hashlib.sha256(manifest).hexdigest(), model_dir=self.model_dir
        )

    def ranges(self) -> list[tuple[int, int]]:
        """What was asked of the model's file, in order of the first byte."""
        return sorted((asked.start, asked.end) for asked in self.asked)

    def written(self, start: int, count: int) -> bytes:
        """What the unfinished model's file has at `start`."""
        (path,) = self.model_dir.glob(".incoming-*/model.onnx")
        with path.open("rb") as file:
            return os.pread(file.fileno(), count, start)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FakeS3

    def do_GET(self) -> None:
        key = self.path.partition("?")[0].removeprefix("/bucket/")
        content = self.store.objects[key]
        named = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(named[1]), int(named[2]) + 1) if named else (0, len(content))
        version = re.search(r"versionId=(\w+)", self.path)
        asked = Asked(start, end, self.headers.get("If-Match"), version[1] if version else None)
        if key != "model.onnx":
            self.answer(content, asked, status=200)
            return
        self.store.asked.append(asked)
        faults = self.store.faults.get(start, [])
        (faults.pop(0) if faults else Handler.answer)(self, content, asked)

    def answer(
        self, content: bytes, asked: Asked, *, status: int = 206, send_bytes: int | None = None, tag: str = ""
    ) -> None:
        """The range, or its first `send_bytes`, under a Content-Length of all of it."""
        body = content[asked.start : asked.end] if status == 206 else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", tag or etag(content))
        if status == 206:
            self.send_header("Content-Range", f"bytes {asked.start}-{asked.start + len(body) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(body[:send_bytes])

    def answer_error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>in the store's words</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
        """Nothing: the tests read `asked`."""


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def reset_after(count: int) -> Fault:
    """Send `count` bytes, then RST as soon as they are written: it takes away what the caller has not read yet."""

    def fault(handler: Handler, content: bytes, asked: Asked) -> None:
        handler.answer(content, asked, send_bytes=count)
        handler.wfile.flush()
        while handler.store.written(asked.start, count) != content[asked.start : asked.start + count]:
            time.sleep(0.001)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(handler.connection.detach())
        handler.close_connection = True

    return fault


def end_after(count: int) -> Fault:
    """Send `count` bytes, then close in an orderly way."""

    def fault(handler: Handler, content: bytes, asked: Asked) -> None:
        handler.answer(content, asked, send_bytes=count)
        handler.close_connection = True

    return fault


def stall_after(count: int) -> Fault:
    """Send `count` bytes, then nothing, with the connection left open."""

    def fault(handler: Handler, content: bytes, asked: Asked) -> None:
        handler.answer(content, asked, send_bytes=count)
        handler.wfile.flush()
        handler.store.stopping.wait(60)
        handler.close_connection = True

    return fault


def refuse(status: int, code: str) -> Fault:
    """Answer with an error of S3's."""
    return lambda handler, content, asked: handler.answer_error(status, code)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, models: Path) -> Iterator[FakeS3]:
    """A store of one's own on loopback; AWS_ENDPOINT_URL points there."""
    store = FakeS3(model_dir=models)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"store": store}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield store
    store.stopping.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """MODEL_DIR."""
    return tmp_path / "models"
