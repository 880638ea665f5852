"""A file that several threads write part by part, while its sha256 is taken in the order of its bytes.

Threads pay: reading from a socket, writing and hashing all release the GIL. A part stays in memory until it is hashed,
so that it need not be read back; only so many are on their way at a time.
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

IOV_MAX = 1024  # buffers in one call: https://man7.org/linux/man-pages/man2/writev.2.html


@dataclass(frozen=True, slots=True)
class Transfer:
    """How files are fetched. Few connections, large parts and large reads: small ones cost CPU, and gain nothing."""

    connections: int = 4
    part_bytes: int = 16 * MIB
    min_part_bytes: int = 4 * MIB
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
    """The bytes from `start` to `end`, of which those before `position` have arrived, in `chunks`."""

    index: int
    start: int
    end: int
    position: int
    chunks: list[bytes] = field(default_factory=list)


class Abandoned(Exception):
    """Another thread has failed; what this one does is no longer wanted."""


@dataclass(slots=True)
class Arrival:
    """Which parts of a file are there. Shared by the threads that write it and the one that hashes it."""

    at_once: int  # parts that are in memory: those that arrive, and those that wait for one before them
    stopped: threading.Event = field(default_factory=threading.Event)
    arrived_bytes: int = 0
    _hashed: int = 0
    _complete: set[int] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _failure: BaseException | None = None

    def begin(self, part: Part) -> None:
        """Wait for the turn of `part`; the first that is not hashed always has it. Raises Abandoned after a failure."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or part.index < self._hashed + self.at_once)
            if self._failure:
                raise Abandoned

    def add(self, part: Part, chunk: bytes) -> None:
        """Note further bytes of `part`. Raises Abandoned after a failure elsewhere."""
        if self._failure:
            raise Abandoned
        part.chunks.append(chunk)
        part.position += len(chunk)
        self.arrived_bytes += len(chunk)  # for the log alone: two threads may lose one another's

    def completed(self, part: Part) -> None:
        """Note that all of `part` is there and written."""
        with self._changed:
            self._complete.add(part.index)
            self._changed.notify_all()

    def failed(self, error: BaseException) -> None:
        """Note the first failure; the other threads stop."""
        with self._changed:
            self._failure = self._failure or error
            self.stopped.set()
            self._changed.notify_all()

    def wait_for(self, part: Part, timeout_s: float) -> bool:
        """Whether `part` is complete, after `timeout_s` at the latest. Raises what a writing thread has failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or part.index in self._complete, timeout_s)
            self.check()
            return part.index in self._complete

    def hashed(self, part: Part) -> None:
        """Let go of `part`."""
        part.chunks.clear()
        with self._changed:
            self._hashed = part.index + 1
            self._changed.notify_all()

    def check(self) -> None:
        """Raises what a writing thread has failed with, if one has."""
        if self._failure:
            raise self._failure


Read = Callable[[Part, Arrival], None]


def write_hashed(fd: int, file: ModelFile, read: Read, transfer: Transfer) -> str:
    """The sha256 of what `read` has added to the parts of the file, in several threads; `fd` has all of it then.
    Raises what `read` raises."""
    size_bytes, part_bytes = file.size_bytes, transfer.part_size(file.size_bytes)
    starts = range(0, size_bytes, part_bytes) if size_bytes else [0]
    parts = [Part(index, start, min(start + part_bytes, size_bytes), start) for index, start in enumerate(starts)]
    arrival = Arrival(at_once=transfer.connections + 1)
    with ThreadPoolExecutor(transfer.connections, thread_name_prefix="fetch") as pool:
        for part in parts:
            pool.submit(_fetch, fd, part, arrival, read)
        try:
            digest = _hash(file, parts, arrival, transfer)
        except BaseException as error:
            arrival.failed(error)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    arrival.check()  # a thread may find fault after its last byte
    return digest


def _fetch(fd: int, part: Part, arrival: Arrival, read: Read) -> None:
    if arrival.stopped.is_set():
        return
    try:
        arrival.begin(part)
        read(part, arrival)
        _write(fd, part)
        arrival.completed(part)
    except BaseException as error:
        arrival.failed(error)


def _write(fd: int, part: Part) -> None:
    position, chunks = part.start, [memoryview(chunk) for chunk in part.chunks]
    while chunks:
        count = os.pwritev(fd, chunks[:IOV_MAX], position)
        position += count
        while chunks and count >= len(chunks[0]):
            count -= len(chunks.pop(0))
        if count:
            chunks[0] = chunks[0][count:]


def _hash(file: ModelFile, parts: list[Part], arrival: Arrival, transfer: Transfer) -> str:
    digest, progress = hashlib.sha256(), Progress(file, transfer.progress_every_s)
    for part in parts:
        while not arrival.wait_for(part, transfer.progress_every_s):
            progress.tell(arrival.arrived_bytes)
        progress.tell(arrival.arrived_bytes)
        for chunk in part.chunks:
            digest.update(chunk)
        arrival.hashed(part)
    progress.done()
    return digest.hexdigest()
