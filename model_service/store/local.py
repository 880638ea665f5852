"""A model that lies beside its manifest on this machine. Copied, not linked: its source may change under a link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_service.manifest import ModelFile
from model_service.store.sizes import read_limited, wrong_size
from model_service.store.transfer import Arrival, Part, Transfer, write_all, write_hashed


@dataclass(frozen=True, slots=True)
class LocalSource:
    """The directory of a manifest, by the manifest's path."""

    manifest_path: Path
    transfer: Transfer

    def read_manifest(self) -> bytes:
        """The manifest's bytes. Raises OSError, or StartRefused if they are too many."""
        with self.manifest_path.open("rb") as source:
            return read_limited(source)

    def fill(self, file: ModelFile, fd: int) -> str:
        """The sha256 of the bytes copied to `fd`. Raises OSError, or StartRefused for another size."""

        def copy(part: Part, arrival: Arrival) -> None:
            buffer = memoryview(bytearray(self.transfer.read_bytes))
            with (self.manifest_path.parent / file.name).open("rb", buffering=0) as source:
                while part.position < part.end:
                    count = source.readinto(buffer[: part.end - part.position])
                    if not count:
                        raise wrong_size(file, part.position)
                    write_all(fd, buffer[:count], part.position)
                    arrival.wrote(part, count)
                if source.read(1):
                    raise wrong_size(file, file.size_bytes + 1)

        return write_hashed(fd, file, max(file.size_bytes, 1), copy, self.transfer)
