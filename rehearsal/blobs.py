"""The registry's bytes on disk, one directory per repository, every blob under the digest that was verified."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import uuid
from pathlib import Path
from urllib.parse import quote

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class DigestMismatch(Exception):
    """The bytes are not the ones their digest names."""


class Upload:
    """One blob on its way in; it becomes a blob only by `finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)

    def finish(self, digest: str, blob: Path) -> None:
        """Move the bytes to their place as `blob`; raises DigestMismatch, and then keeps nothing."""
        try:
            self._file.close()
        except OSError:  # the disk is full
            self._path.unlink()
            raise
        if f"sha256:{self._sha256.hexdigest()}" != digest:
            self._path.unlink()
            raise DigestMismatch(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(blob)

    def abandon(self) -> None:
        """Throw the bytes away."""
        with contextlib.suppress(OSError):  # of what could not be written
            self._file.close()
        self._path.unlink(missing_ok=True)


class Blobs:
    """All blobs of all repositories. As in ECR a blob belongs to one repository and is uploaded to each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, repository: str, digest: str) -> Path | None:
        """The file of a blob, or None when the repository does not have it (or `digest` is not a digest)."""
        path = self._place(repository, digest) if DIGEST.fullmatch(digest) else None
        return path if path and path.is_file() else None

    def size_bytes(self, repository: str, digest: str) -> int | None:
        """How long a blob is, or None when the repository does not have it."""
        path = self.path(repository, digest)
        return path.stat().st_size if path else None

    def put(self, repository: str, content: bytes) -> str:
        """Store `content`; gives its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        upload = self.begin()
        upload.write(content)
        self.keep(upload, repository, digest)
        return digest

    def begin(self) -> Upload:
        """Start an upload."""
        return Upload(self._directory / ".uploads" / uuid.uuid4().hex)

    def keep(self, upload: Upload, repository: str, digest: str) -> None:
        """Make a finished upload a blob of the repository; raises DigestMismatch."""
        upload.finish(digest, self._place(repository, digest))

    def delete_repository(self, repository: str) -> None:
        """Forget all blobs of a repository."""
        shutil.rmtree(self._directory / quote(repository, safe=""), ignore_errors=True)

    def clear(self) -> None:
        """Forget everything: what an earlier rehearsal stored belongs to repositories that are gone."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _place(self, repository: str, digest: str) -> Path:
        # Quoted, so that the repository `a/b` is one directory and no name can leave the registry's own.
        return self._directory / quote(repository, safe="") / digest.removeprefix("sha256:")
