"""Removes what a rehearsal has in Docker when that rehearsal ends, however it ends; and what a dead one left.

Run as `python -S -E docker_guardian.py SOCKET LABEL REGISTRY` with the rehearsal's pipe as standard input. A byte on it
is an orderly end: whatever still has the label is removed, once. Its end without one is a death: then a container may
still be on its way, asked for in the last moment, and the guardian stays until nothing has come for a while.
Standard library only: it must not fail for want of anything.
"""

import http.client
import json
import socket as sockets
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

QUIET_S = 3.0
SWEEP_EVERY_S = 0.5
ANSWER_S = 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(socket: str, method: str, path: str, **query: str) -> tuple[int, Any]:
    """Status and JSON of one answer of the daemon. Raises OSError when nobody answers."""
    connection = UnixConnection(socket)
    words = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    try:
        connection.request(method, f"{path}?{words}" if words else path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.lstrip()[:1] in (b"{", b"[") else {}
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def sweep(socket: str, label: str) -> int:
    """Remove every container, volume and network with `label`; how many there were."""
    labelled = {"filters": json.dumps({"label": [label]})}
    containers = [one["Id"] for one in ask(socket, "GET", "/containers/json", all="1", **labelled)[1]]
    _all(lambda one: ask(socket, "DELETE", f"/containers/{one}", force="1", v="1"), containers)
    volumes = [one["Name"] for one in ask(socket, "GET", "/volumes", **labelled)[1].get("Volumes") or []]
    _all(lambda one: ask(socket, "DELETE", f"/volumes/{one}"), volumes)
    networks = [one["Id"] for one in ask(socket, "GET", "/networks", **labelled)[1]]
    _all(lambda one: ask(socket, "DELETE", f"/networks/{one}"), networks)
    return len(containers) + len(volumes) + len(networks)


def forget_images(socket: str, registry: str) -> None:
    """Take the names that begin with `registry` from Docker's images: nobody answers under them any more."""
    images = ask(socket, "GET", "/images/json")[1]
    names = {name for image in images for kind in ("RepoTags", "RepoDigests") for name in image.get(kind) or []}
    for name in sorted(names):  # one after another: the last name of an image takes its layers with it
        if name.startswith(registry + "/") and "<none>" not in name:
            ask(socket, "DELETE", f"/images/{name}")


def _all(work: Callable[[str], object], things: Iterable[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, things))


def main() -> None:
    socket, label, registry = sys.argv[1:]
    is_orderly = bool(sys.stdin.buffer.read(1))
    quiet_until = time.monotonic() + (0 if is_orderly else QUIET_S)
    while sweep(socket, label) or time.monotonic() < quiet_until:
        time.sleep(SWEEP_EVERY_S)
    forget_images(socket, registry)


if __name__ == "__main__":
    main()
