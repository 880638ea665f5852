"""Tiny real servers and a bench that keeps its files in a temporary directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.cells import Patience
from benchmarks.field import Bench


@dataclass
class Tiny:
    """An HTTP server in this process: `answer(body)` gives a status and a body, or None to say nothing."""

    answer: Callable[[bytes], tuple[int, bytes] | None]
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def tiny() -> Iterator[Callable[..., Tiny]]:
    """Starts a tiny server: `tiny(lambda body: (200, body)).port`."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[bytes], tuple[int, bytes] | None]) -> Tiny:
        state = Tiny(answer)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                state.bodies.append(body)
                answered = state.answer(body)
                if answered is None:
                    time.sleep(2)
                    self.close_connection = True
                    return
                self.send_response(answered[0])
                self.send_header("Content-Length", str(len(answered[1])))
                self.end_headers()
                self.wfile.write(answered[1])

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        server = Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        state.port = server.server_port
        return state

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One round of one second."""
    return Bench(tmp_path, rounds=1, seconds=1, say=print, patience=Patience(0, print))
