"""An image pushed over the registry's HTTP API, for a registry on this machine only.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs
"""

from __future__ import annotations

import http.client
import ipaddress
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode, urljoin, urlsplit

from pipeline.errors import AwsError, ConfigError

TIMEOUT_S = 60
BLOB_TYPE = "application/octet-stream"


class Content(Protocol):
    """Bytes and their digest."""

    @property
    def content(self) -> bytes: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry's address, `http://127.0.0.1:5000`, and who pushes there."""

    url: str
    user: str
    password: str = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


def push(
    registry: Registry, repository: str, blobs: Iterable[Content], manifest: Content, media_type: str, tag: str
) -> None:
    """Push the blobs that the registry lacks, then the manifest under `tag`.

    Raises ConfigError unless the registry is on this machine, AwsError when it refuses.
    """
    refuse_remote(registry)
    for blob in blobs:
        if _send(registry, "HEAD", f"/v2/{repository}/blobs/{blob.digest}", expected=(200, 404)).status == 200:
            continue
        begun = _send(registry, "POST", f"/v2/{repository}/blobs/uploads/", expected=(202,))
        _send(registry, "PUT", upload_path(begun.location, blob.digest), blob.content, BLOB_TYPE, expected=(201,))
    path = f"/v2/{repository}/manifests/{tag}"
    _send(registry, "PUT", path, manifest.content, media_type, expected=(201,))


def upload_path(location: str, digest: str) -> str:
    """Where a blob is finished: the path that the registry named, with the digest added to its query."""
    parts = urlsplit(location)
    joined = "&".join(filter(None, [parts.query, urlencode({"digest": digest})]))
    return f"{parts.path}?{joined}"


def refuse_remote(registry: Registry) -> None:
    """Raise ConfigError unless the registry is on this machine."""
    host = urlsplit(registry.url).hostname or ""
    if not _is_loopback(host):
        raise ConfigError(
            "The `layers` builder writes an image without a base: only a registry on this machine takes it "
            f"(this one is {host}).",
            "set services.<name>.image.builder: docker",
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str
    body: str


def _send(
    registry: Registry,
    method: str,
    path: str,
    body: bytes | None = None,
    content_type: str | None = None,
    *,
    expected: tuple[int, ...],
) -> _Answer:
    credentials = b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"} | ({"Content-Type": content_type} if content_type else {})
    connection = http.client.HTTPConnection(registry.host, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body=body if body is not None else b"", headers=headers)
        response = connection.getresponse()
        location = urljoin(registry.url, response.getheader("Location", ""))
        answer = _Answer(response.status, location, response.read(2000).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise AwsError(f"The registry {registry.url} does not answer: {error}", "run `onnxship rehearse up`") from error
    finally:
        connection.close()
    if answer.status not in expected:
        raise AwsError(
            f"The registry refused {method} {path}: HTTP {answer.status} {answer.body}",
            "read its message above; the same command can be run again safely",
            code=str(answer.status),
        )
    return answer


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
