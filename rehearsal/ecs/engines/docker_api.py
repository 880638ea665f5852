"""Docker's own API over its socket: what `docker` would do, without a process for every question.

https://docs.docker.com/reference/api/engine/ (paths without a version: the daemon's own, whichever that is)
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import aiohttp

from rehearsal.ecs.engines.docker_guardian import ask
from rehearsal.unusable import Unusable

DEFAULT_HOST = "unix:///var/run/docker.sock"
OTHER_ENGINE = "or rehearse without Docker: `--engine process`"
STREAM_HEADER_BYTES = 8


class DockerRefused(Exception):
    """The daemon's refusal in its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status


class Docker:
    """A client of the daemon for the one loop."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Be ready to ask; each running container has two long answers open."""
        connector = aiohttp.UnixConnector(path=self._socket, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession("http://docker", connector=connector, timeout=timeout)

    async def close(self) -> None:
        """Ask no more."""
        if self._session:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON (of a stream of JSON lines, the list of them). Raises DockerRefused."""
        assert self._session
        async with self._session.request(method, path, json=body, headers=headers, params=query) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise DockerRefused(answer.status, _message(text))
            if path == "/images/create":
                return [json.loads(line) for line in text.splitlines() if line.strip()]
            return json.loads(text) if text.strip() and answer.content_type == "application/json" else None

    async def follow(self, container: str, output: asyncio.StreamReader) -> None:
        """Feed what the container writes to `output`, from its first byte to its end.

        Both streams come in frames: https://docs.docker.com/reference/api/engine/version/v1.41/#operation/ContainerAttach
        """
        assert self._session
        path, query = f"/containers/{container}/logs", {"follow": "1", "stdout": "1", "stderr": "1"}
        try:
            async with self._session.get(path, params=query) as answer:
                while header := await answer.content.read(STREAM_HEADER_BYTES):
                    header += await answer.content.readexactly(STREAM_HEADER_BYTES - len(header))
                    output.feed_data(await answer.content.readexactly(int.from_bytes(header[4:])))
        except (aiohttp.ClientError, asyncio.IncompleteReadError):
            pass  # the daemon ended, or the container was removed meanwhile: there is no more to read
        finally:
            output.feed_eof()


def find_daemon() -> str:
    """The socket of a Docker of this machine that answers. Raises Unusable when there is none."""
    host = os.environ.get("DOCKER_HOST") or _host_of_context() or DEFAULT_HOST
    if not host.startswith("unix://"):
        raise Unusable(
            f"Docker is at {host}; the docker engine needs one on this machine, which reaches its 127.0.0.1.",
            f"`docker context use default` (or unset DOCKER_HOST), {OTHER_ENGINE}",
        )
    socket = host.removeprefix("unix://")
    try:
        status, version = ask(socket, "GET", "/version")
    except OSError as error:
        raise Unusable(
            f"No Docker answers at {socket}: {error.strerror or error}.",
            f"install and start Docker (https://docs.docker.com/get-docker/), {OTHER_ENGINE}",
        ) from error
    if status != 200 or version.get("Os") != "linux":
        raise Unusable(f"The Docker at {socket} runs no Linux containers.", f"switch it to Linux, {OTHER_ENGINE}")
    return socket


def _host_of_context() -> str:
    """Where the `docker` command would go, or "" when there is no such command."""
    words = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return text.strip()
