"""A real HTTP server on a free port, a manifest and golden rows."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest


@dataclass
class Site:
    """What the server answers, and what it was asked."""

    url: str = ""
    status: int = 200
    delay_s: float = 0.0
    release: str = "v1"
    redirect_to: str = ""
    asked: list[tuple[str, bytes, str]] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server that answers everything with the site's status and release; `asked` holds the POSTs."""
    with serving(Site()) as site:
        yield site


@pytest.fixture
def live() -> Iterator[Site]:
    """The server of the release that serves."""
    with serving(Site(release="v0")) as site:
        yield site


@contextmanager
def serving(site: Site, tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            site.asked_at.append(time.monotonic())
            site.asked.append((self.path, body, self.headers.get("X-Onnxship-Gate", "")))
            threading.Event().wait(site.delay_s)
            self.answer()

        def answer(self) -> None:
            answer = b'{"prediction": 1}' if site.status == 200 else b'{"error": "no"}'
            self.send_response(307 if site.redirect_to else site.status)
            if site.redirect_to:
                self.send_header("Location", site.redirect_to + self.path)
            self.send_header("X-Onnxship-Release", site.release)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        # The handshake is the handler's thread's matter: a client that turns away must not hold up the others.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def model_files(tmp_path: Path) -> tuple[Path, Path]:
    """manifest.json and golden.npz of a model with one input of three features."""
    manifest = {
        "name": "toy",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
        "predict": {"input": "X", "label": "label", "probabilities": None},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.savez(tmp_path / "golden.npz", X=rows, **{"output:label": np.arange(10)})
    return tmp_path / "manifest.json", tmp_path / "golden.npz"
