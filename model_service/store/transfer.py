"""A file that several threads write part by part, while its sha256 is taken in the order of its bytes.

Threads pay: reading from a socket, writing and hashing all release the GIL. The digest is of what the file holds, read
back while it is still in the page cache.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from model_service.manifest import ModelFile
from model_service.settings import MIB
from model_service.store.progress import Progress


@dataclass(frozen=True, slots=True)
class Transfer:
    """How files are fetched. Few connections, large parts and large reads: small ones cost CPU, and gain nothing."""

    connections: int = 4
    part_bytes: int = 64 * MIB
    min_part_bytes: int = 8 * MIB
    read_bytes: int = 1 * MIB
    connect_timeout_s: float = 5
    read_timeout_s: float = 30
    # Failures in a row; one after which bytes arrived is the first again.
    attempts: int = 6
    first_backoff_s: float = 0.5
    progress_every_s: float = 5

    def part_size(self, size_bytes: int) -> int:
        """The bytes of one part: all connections have one even where the file is of medium size."""
        share = -(-size_bytes // self.connections)
        return min(self.part_bytes, max(self.min_part_bytes, share))


@dataclass(slots=True)
class Part:
    """The bytes from `start` to `end`, of which those before `position` are written."""

    start: int
    end: int
    position: int


class Abandoned(Exception):
    """Another thread has failed; what this one does is no longer wanted."""


@dataclass(slots=True)
class Arrival:
    """Which bytes of a file are there. Shared by the threads that write it and the one that follows them."""

    parts: list[Part]
    stopped: threading.Event = field(default_factory=threading.Event)
    # Writers of one file exclude each other in the kernel anyway, where they spin; here they sleep.
    writing: threading.Lock = field(default_factory=threading.Lock)
    arrived_bytes: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _first_open: int = 0
    _failure: BaseException | None = None

    def wrote(self, part: Part, count: int) -> None:
        """Note that `count` more bytes of `part` are written. Raises Abandoned after a failure elsewhere."""
        with self._changed:
            if self._failure:
                raise Abandoned
            part.position += count
            self.arrived_bytes += count
            while self._first_open < len(self.parts) and self._is_complete(self._first_open):
                self._first_open += 1
            self._changed.notify()

    def failed(self, error: BaseException) -> None:
        """Note the first failure; the other threads stop."""
        with self._changed:
            self._failure = self._failure or error
            self.stopped.set()
            self._changed.notify()

    def wait_beyond(self, position: int, timeout_s: float) -> int:
        """How many bytes are there without a gap: more than `position`, or as many after `timeout_s`.

        Raises what a writing thread has failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._contiguous() > position, timeout_s)
            self.check()
            return self._contiguous()

    def check(self) -> None:
        """Raises what a writing thread has failed with, if one has."""
        if self._failure:
            raise self._failure

    def _is_complete(self, index: int) -> bool:
        return self.parts[index].position == self.parts[index].end

    def _contiguous(self) -> int:
        return self.parts[min(self._first_open, len(self.parts) - 1)].position


Write = Callable[[Part, Arrival], None]


def write_hashed(fd: int, file: ModelFile, part_bytes: int, write: Write, transfer: Transfer) -> str:
    """The sha256 of `fd` after `write` has written every part of it, in `transfer.connections` threads.

    Raises what `write` raises.
    """
    size_bytes = file.size_bytes
    starts = range(0, size_bytes, part_bytes) if size_bytes else [0]
    arrival = Arrival([Part(start, min(start + part_bytes, size_bytes), start) for start in starts])
    with ThreadPoolExecutor(transfer.connections, thread_name_prefix="fetch") as pool:
        for part in arrival.parts:
            pool.submit(_noting_failure, write, part, arrival)
        try:
            digest = _follow(fd, file, arrival, transfer)
        except BaseException as error:
            arrival.failed(error)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    arrival.check()  # a thread may find fault after its last byte
    return digest


def write_all(fd: int, content: bytes | memoryview, position: int) -> None:
    """Write `content` at `position`, in as many calls as it takes."""
    rest = memoryview(content)
    while rest:
        count = os.pwrite(fd, rest, position)
        rest, position = rest[count:], position + count


def _noting_failure(write: Write, part: Part, arrival: Arrival) -> None:
    if arrival.stopped.is_set():
        return
    try:
        write(part, arrival)
    except BaseException as error:
        arrival.failed(error)


def _follow(fd: int, file: ModelFile, arrival: Arrival, transfer: Transfer) -> str:
    digest, buffer, hashed = hashlib.sha256(), memoryview(bytearray(transfer.read_bytes)), 0
    progress = Progress(file, transfer.progress_every_s)
    while hashed < file.size_bytes:
        available = arrival.wait_beyond(hashed, transfer.progress_every_s)
        progress.tell(arrival.arrived_bytes)
        if count := min(available - hashed, transfer.read_bytes):
            count = os.preadv(fd, [buffer[:count]], hashed)
            digest.update(buffer[:count])
            hashed += count
    progress.done()
    return digest.hexdigest()
