"""A model that lies beside its manifest on this machine. Copied, not linked: its source may change under a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_service.errors import StartRefused
from model_service.manifest import ModelFile
from model_service.store.sizes import read_limited, wrong_size
from model_service.store.transfer import Arrival, Part, Transfer, write_hashed


@dataclass(frozen=True, slots=True)
class LocalSource:
    """The directory of a manifest, by the manifest's path."""

    manifest_path: Path
    transfer: Transfer

    def read_manifest(self) -> bytes:
        """The manifest's bytes. Raises StartRefused."""
        with _readable(self.manifest_path, "the manifest"), self.manifest_path.open("rb") as source:
            return read_limited(source)

    def fill(self, file: ModelFile, fd: int) -> str:
        """The sha256 of the bytes copied to `fd`. Raises OSError, or StartRefused for what cannot be read or has
        another size."""
        path = self.manifest_path.parent / file.name

        def read(part: Part, arrival: Arrival) -> None:
            with _readable(path, "the manifest's file"), path.open("rb", buffering=0) as source:
                while part.position < part.end:
                    wanted = min(self.transfer.read_bytes, part.end - part.position)
                    chunk = os.pread(source.fileno(), wanted, part.position)
                    if not chunk:
                        raise wrong_size(file, part.position)
                    arrival.add(part, chunk)
                if part.end == file.size_bytes and os.pread(source.fileno(), 1, part.end):
                    raise wrong_size(file, file.size_bytes + 1)

        return write_hashed(fd, file, read, self.transfer)


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartRefused(f"{what} {path} cannot be read: {error.strerror or error}") from error
