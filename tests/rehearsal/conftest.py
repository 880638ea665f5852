"""A real rehearsal in a process of its own, boto3 clients of it, and tiny images to push to its registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

ACCOUNT, REGION = "111122223333", "eu-west-1"
ROOT = Path(__file__).parents[2]


def start_rehearsal(state_dir: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """`python -m rehearsal up`, begun; `await_up` waits for it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    where = ["--state-dir", str(state_dir), "--account", ACCOUNT, "--region", REGION]
    return subprocess.Popen(
        [sys.executable, "-m", "rehearsal", "up", *where, *more],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def await_up(
    process: subprocess.Popen[str], state_dir: Path, timeout_s: float = 60.0, stale_pid: int | None = None
) -> dict[str, Any]:
    """What the rehearsal says about itself once it is up. `stale_pid`: whose state file may still lie there."""
    deadline, path = time.monotonic() + timeout_s, state_dir / "rehearsal.json"
    while not (path.exists() and json.loads(path.read_text())["pid"] != stale_pid):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "the rehearsal did not come up"
        time.sleep(0.05)
    return json.loads(path.read_text())


def client_of(endpoint: str, service: str, attempts: int = 1) -> Any:
    """A boto3 client of a rehearsal."""
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, s3={"addressing_style": "path"})
    session = boto3.Session("rehearsal", "rehearsal", region_name=REGION)
    return session.client(service, endpoint_url=endpoint, config=config)


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A rehearsal that is up: the content of its state file."""
    state_dir = tmp_path_factory.mktemp("rehearsal")
    process = start_rehearsal(state_dir)
    try:
        yield await_up(process, state_dir)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def client(up: dict[str, Any]) -> Callable[..., Any]:
    """`client("ecr")`: a boto3 client of the rehearsal that is up."""
    return lambda service, **kwargs: client_of(up["endpoint"], service, **kwargs)


@pytest.fixture(scope="session")
def oci() -> SimpleNamespace:
    """Images in small: `oci.image_of(files)`, `oci.Pusher(ecr client)`, `oci.sha256(bytes)`."""
    return SimpleNamespace(image_of=image_of, Pusher=Pusher, sha256=sha256, MANIFEST=MANIFEST)


@pytest.fixture(scope="session")
def supervised() -> SimpleNamespace:
    """A test's own rehearsals: start(state_dir, ...), await_up(process, state_dir), client_of(endpoint, service)."""
    return SimpleNamespace(start=start_rehearsal, await_up=await_up, client_of=client_of)


MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """One layer, one configuration, one manifest: all bytes."""

    layer: bytes
    config: bytes

    @property
    def manifest(self) -> bytes:
        def descriptor(kind: str, content: bytes) -> dict[str, Any]:
            media_type = f"application/vnd.oci.image.{kind}"
            return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}

        parts = {
            "config": descriptor("config.v1+json", self.config),
            "layers": [descriptor("layer.v1.tar+gzip", self.layer)],
        }
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **parts}).encode()

    @property
    def digest(self) -> str:
        return sha256(self.manifest)


def image_of(files: dict[str, str], command: list[str] | None = None, **config: Any) -> Image:
    """An image whose one layer holds `files`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    layer = gzip.compress(buffer.getvalue(), mtime=0)
    settings = {"Cmd": command or ["python", "app.py"], "WorkingDir": "/app", "Env": [], **config}
    content = {
        "architecture": "amd64",
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [sha256(buffer.getvalue())]},
    }
    return Image(layer, json.dumps(content).encode())


class Pusher:
    """Speaks /v2/ with the token that ECR gives."""

    def __init__(self, ecr: Any) -> None:
        data = ecr.get_authorization_token()["authorizationData"][0]
        user, password = base64.b64decode(data["authorizationToken"]).decode().split(":")
        self.http = httpx.Client(base_url=data["proxyEndpoint"], auth=(user, password))

    def push(self, repository: str, image: Image, tag: str) -> str:
        """Push blobs and manifest; gives the digest."""
        for blob in (image.layer, image.config):
            self.put_blob(repository, blob)
        self.put_manifest(repository, image, tag).raise_for_status()
        return image.digest

    def put_blob(self, repository: str, blob: bytes) -> None:
        begun = self.http.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
        self.http.put(begun.headers["Location"], params={"digest": sha256(blob)}, content=blob).raise_for_status()

    def put_manifest(self, repository: str, image: Image, reference: str) -> httpx.Response:
        url = f"/v2/{repository}/manifests/{reference}"
        return self.http.put(url, content=image.manifest, headers={"Content-Type": MANIFEST})
