"""The two refusals by size that every source shares."""

from __future__ import annotations

from typing import BinaryIO

from model_service.errors import StartRefused
from model_service.manifest import ModelFile
from model_service.settings import MIB

MAX_MANIFEST_BYTES = 1 * MIB


def wrong_size(file: ModelFile, found_bytes: int) -> StartRefused:
    """The refusal of a file that has, or has at least, `found_bytes`."""
    more = "more than" if found_bytes > file.size_bytes else f"{found_bytes} instead of"
    return StartRefused(f"{file.name} has the wrong size: {more} {file.size_bytes} bytes")


def read_limited(source: BinaryIO) -> bytes:
    """A manifest's bytes. Raises StartRefused if they are too many."""
    content = b""
    while chunk := source.read(MAX_MANIFEST_BYTES):  # to the very end: only there a broken connection shows
        content += chunk
        if len(content) > MAX_MANIFEST_BYTES:
            raise StartRefused(f"the model manifest is larger than {MAX_MANIFEST_BYTES} bytes")
    return content
