"""Images pulled from the ECR registry over HTTP: manifest, configuration and layers, each checked against its digest.

The protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from rehearsal.context import Context
from rehearsal.ecs.layers import extract_layer

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CHUNK_BYTES = 1 << 20


class CannotPull(Exception):
    """The image cannot be had; the text follows ECS's `CannotPullContainerError: `."""


@dataclass(frozen=True)
class Image:
    """An image: the digest of its manifest, its configuration, and where its extracted files are, if they are."""

    digest: str
    config: dict[str, Any]
    root: Path | None = None


@dataclass(frozen=True)
class Reference:
    """registry/repository[:tag][@digest]"""

    registry: str
    repository: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        rest, _, digest = text.partition("@")
        registry, slash, path = rest.partition("/")
        if not slash or not (":" in registry or "." in registry):
            raise CannotPull(f"failed to resolve ref {text}: only the rehearsal's own registry can be pulled from")
        repository, _, tag = path.partition(":")
        return cls(registry, repository, digest or tag or "latest")


class Images:
    """Pulls images, each digest once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory = context.settings.state_dir / "images"
        self._locks: dict[str, asyncio.Lock] = {}

    async def pull(self, text: str, digest: str | None = None) -> Image:
        """The image of a container definition; with a known `digest` that exact one, from the cache if it is there."""
        if digest and (cached := self._cached(digest)):
            return cached
        reference = self._own(text)
        lock = self._locks.setdefault(f"{reference.repository}@{digest or reference.name}", asyncio.Lock())
        async with lock, aiohttp.ClientSession(headers=await self._authorization()) as session:
            try:
                return await self._pull(session, reference, digest or reference.name, text)
            except aiohttp.ClientError as error:
                raise CannotPull(f"failed to resolve ref {text}: {error}") from error
            except OSError as error:
                raise CannotPull(f"failed to register layer: {error}") from error

    async def resolve(self, text: str, digest: str | None = None) -> Image:
        """The same image without its files."""
        reference = self._own(text)
        async with aiohttp.ClientSession(headers=await self._authorization()) as session:
            try:
                found, manifest = await self._manifest(session, reference, digest or reference.name, text)
                config = json.loads(await self._blob(session, reference, manifest["config"]["digest"]))
            except aiohttp.ClientError as error:
                raise CannotPull(f"failed to resolve ref {text}: {error}") from error
        _refuse_other_platforms(config)
        return Image(found, config)

    def _own(self, text: str) -> Reference:
        reference = Reference.parse(text)
        if reference.registry != self._context.registry:
            raise CannotPull(f"failed to resolve ref {text}: {reference.registry} is not the rehearsal's registry")
        return reference

    async def _pull(self, session: aiohttp.ClientSession, reference: Reference, name: str, text: str) -> Image:
        digest, manifest = await self._manifest(session, reference, name, text)
        if cached := self._cached(digest):
            return cached
        config = json.loads(await self._blob(session, reference, manifest["config"]["digest"]))
        _refuse_other_platforms(config)
        unpacked = Path(tempfile.mkdtemp(prefix="unpacking-", dir=self._made()))
        try:
            for layer in manifest["layers"]:
                await self._unpack(session, reference, layer["digest"], unpacked / "root")
            (unpacked / "config.json").write_text(json.dumps(config), encoding="utf-8")
            return self._keep(unpacked, digest, config)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)

    def _keep(self, unpacked: Path, digest: str, config: dict[str, Any]) -> Image:
        final = self._place(digest)
        if not final.exists():
            os.rename(unpacked, final)
        return Image(digest, config, final / "root")

    def _cached(self, digest: str) -> Image | None:
        place = self._place(digest)
        if not place.is_dir():
            return None
        return Image(digest, json.loads((place / "config.json").read_text(encoding="utf-8")), place / "root")

    def _place(self, digest: str) -> Path:
        return self._directory / digest.replace(":", "-")

    def _made(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory

    async def _authorization(self) -> dict[str, str]:
        answer = await self._context.call("ecr", "get_authorization_token")
        return {"Authorization": f"Basic {answer['authorizationData'][0]['authorizationToken']}"}

    async def _manifest(
        self, session: aiohttp.ClientSession, reference: Reference, name: str, text: str
    ) -> tuple[str, dict[str, Any]]:
        url = f"http://{reference.registry}/v2/{reference.repository}/manifests/{name}"
        async with session.get(url, headers={"Accept": ", ".join((*MANIFESTS, *INDEXES))}) as answer:
            if answer.status == 404:
                raise CannotPull(
                    f"pull image manifest has been retried 1 time(s): failed to resolve ref {text}: not found"
                )
            answer.raise_for_status()
            body = await answer.read()
        digest = _checked(body, name)
        manifest = json.loads(body)
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            return await self._manifest(session, reference, _amd64_of(manifest), text)
        return digest, manifest

    async def _blob(self, session: aiohttp.ClientSession, reference: Reference, digest: str) -> bytes:
        url = f"http://{reference.registry}/v2/{reference.repository}/blobs/{digest}"
        async with session.get(url) as answer:
            answer.raise_for_status()
            body = await answer.read()
        _checked(body, digest)
        return body

    async def _unpack(self, session: aiohttp.ClientSession, reference: Reference, digest: str, directory: Path) -> None:
        url = f"http://{reference.registry}/v2/{reference.repository}/blobs/{digest}"
        directory.mkdir(exist_ok=True)
        with tempfile.TemporaryFile() as file:
            summed = hashlib.sha256()
            async with session.get(url) as answer:
                answer.raise_for_status()
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    summed.update(chunk)
                    file.write(chunk)
            if f"sha256:{summed.hexdigest()}" != digest:
                raise CannotPull(
                    f"failed to extract layer {digest}: what the registry sent is sha256:{summed.hexdigest()}"
                )
            file.seek(0)
            try:
                await asyncio.to_thread(extract_layer, file, directory)
            except (tarfile.TarError, OSError) as error:
                raise CannotPull(f"failed to extract layer {digest}: {error}") from error


def _checked(body: bytes, name: str) -> str:
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if name.startswith("sha256:") and digest != name:
        raise CannotPull(f"failed to resolve ref {name}: what the registry sent is {digest}")
    return digest


def _amd64_of(index: dict[str, Any]) -> str:
    for entry in index["manifests"]:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(entry["digest"])
    raise CannotPull("image Manifest does not contain descriptor matching platform 'linux/amd64'.")


def _refuse_other_platforms(config: dict[str, Any]) -> None:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_cannot_pull_image.html"""
    if (config.get("os"), config.get("architecture")) != ("linux", "amd64"):
        raise CannotPull("image Manifest does not contain descriptor matching platform 'linux/amd64'.")
