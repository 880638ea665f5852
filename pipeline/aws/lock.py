"""One writer per environment and service: a lease in S3, taken and renewed by conditional writes.

Time is S3's own: a lease ends `ttl_s` seconds after the object's LastModified, read against the answer's Date. The
object is never deleted, so the fence number only rises. Renewing is a compare-and-swap, and so proves that the lease
is still ours; what remains is the one call that follows, as with every lease.
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pipeline.aws.documents import Document, Lost, create_document, read_document, replace_document
from pipeline.aws.session import Aws
from pipeline.errors import AwsError, Locked
from pipeline.results import LockState

TTL_S = 120
WRITE_TRIES = 3
TAKE_TRIES = 10  # others write meanwhile
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class LockPlace:
    """Where the lock of one environment and service lies."""

    bucket: str
    environment: str
    service: str

    @property
    def key(self) -> str:
        return f"locks/{self.environment}/{self.service}.json"

    @property
    def command(self) -> str:
        return f"onnxship lock release --env {self.environment} --service {self.service}"


@dataclass
class Lease:
    """A held lock. `confirm` before each mutating call; `kept_alive` renews it meanwhile."""

    aws: Aws
    place: LockPlace
    content: dict[str, Any]
    etag: str
    preempted: LockState | None = None
    _lost: bool = False
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def fence(self) -> int:
        return int(self.content["fence"])

    def confirm(self) -> None:
        """Renew the lease. Raises Locked when somebody else has taken it."""
        with self._mutex:
            self._lost = self._lost or not self._write(self._next_beat())
            if not self._lost:
                return
        raise _taken(self.place, read_document(self.aws, self.place.bucket, self.place.key), self.fence)

    def release(self) -> None:
        """Let others in. A lease that somebody else took meanwhile is left to them."""
        with self._mutex:
            if self._lost:
                return
            self._lost = True
            try:
                self._write(_free(self.fence, _described(self.content)))
            except AwsError:
                return  # it ends by itself within ttl_s; how the run ended must not be hidden by this

    def _write(self, content: dict[str, Any]) -> bool:
        """Write over our own lease; false when it is somebody else's now."""
        for _ in range(WRITE_TRIES):
            try:
                self.etag = replace_document(self.aws, self.place.bucket, self.place.key, content, self.etag)
                return True
            except Lost:
                # What stands there may be an earlier beat of ours whose answer never came: it has our nonce.
                present = read_document(self.aws, self.place.bucket, self.place.key)
                if present is None or present.content["nonce"] != self.content["nonce"]:
                    return False
                self.etag = present.etag
        return False

    @contextmanager
    def kept_alive(self, interval_s: float = TTL_S / 4) -> Iterator[Lease]:
        """Renew the lease in a thread for as long as the block runs, then release it.

        The thread does both: a signal interrupts the main thread alone, so none can come between a run and its
        release, and no daemon thread would be waited for when the process ends.
        """
        stop, over = threading.Event(), threading.Event()
        threading.Thread(target=self._beat, args=(stop, over, interval_s), name="lock").start()
        try:
            yield self
        finally:
            stop.set()
            over.wait()  # an interrupted `join` takes the thread for ended, and the process would not wait for it

    def _beat(self, stop: threading.Event, over: threading.Event, interval_s: float) -> None:
        try:
            self._renew_until(stop, interval_s)
            self.release()
        finally:
            over.set()

    def _renew_until(self, stop: threading.Event, interval_s: float) -> None:
        renewed_s = time.monotonic()
        while not stop.wait(min(LOOK_S, interval_s)) and threading.main_thread().is_alive():
            if time.monotonic() - renewed_s < interval_s:
                continue
            renewed_s = time.monotonic()
            try:
                self.confirm()
            except Locked:
                return  # the next `confirm` of the main thread says it
            except AwsError:
                continue  # S3 may be back before the lease ends; if not, `confirm` before the next change says so

    def _next_beat(self) -> dict[str, Any]:
        # A counter, so that every renewal is a new ETag: equal bytes would let a stale holder's If-Match succeed.
        self.content = self.content | {"beat": int(self.content.get("beat", 0)) + 1}
        return self.content


def acquire(
    aws: Aws, place: LockPlace, *, holder: str, run_url: str = "", command: str = "", preempt: bool = False,
    ttl_s: int = TTL_S,
) -> Lease:  # fmt: skip
    """Take the lock when it is free or its lease has ended; with `preempt`, also from a living holder.

    Raises Locked with who holds it, since when and until when.
    """
    content = {
        "holder": holder, "run_url": run_url, "command": command, "nonce": uuid.uuid4().hex, "ttl_s": ttl_s,
    }  # fmt: skip
    for _ in range(TAKE_TRIES):
        present = read_document(aws, place.bucket, place.key)
        state = _state(place, present)
        if state.held and not preempt:
            raise _locked(state, place)
        content["fence"] = state.fence + 1
        try:
            if present is None:
                etag = create_document(aws, place.bucket, place.key, content)
            else:
                etag = replace_document(aws, place.bucket, place.key, content, present.etag)
        except Lost:
            continue  # somebody wrote between our look and our write: a rival, or the holder renewing or leaving
        # When it began, by S3's clock, is known only now; the first renewal writes it down.
        began = read_lock(aws, place).since
        return Lease(aws, place, content | {"since": began}, etag, preempted=state if state.held else None)
    raise _locked(read_lock(aws, place), place)


def read_lock(aws: Aws, place: LockPlace) -> LockState:
    """Who holds the lock now."""
    return _state(place, read_document(aws, place.bucket, place.key))


def free_lock(aws: Aws, place: LockPlace, *, by: str = "") -> LockState:
    """Take the lock from whoever holds it and leave it free; returns whom it was taken from."""
    for _ in range(TAKE_TRIES):
        present = read_document(aws, place.bucket, place.key)
        state = _state(place, present)
        if present is None or not present.content.get("nonce"):
            return state
        try:
            replace_document(aws, place.bucket, place.key, _free(state.fence + 1, by), present.etag)
        except Lost:
            continue
        return state
    raise _locked(read_lock(aws, place), place)


def _free(fence: int, last: str) -> dict[str, Any]:
    """A lock that nobody holds; `last` tells a run that comes too late whom it lost to."""
    return {"holder": "", "nonce": "", "fence": fence, "ttl_s": 0, "last": last}


def _described(content: dict[str, Any]) -> str:
    """The holder in words: who, with what, where to read on."""
    named = {name: content.get(name, "") for name in ("holder", "run_url", "command")}
    return LockState("", "", held=True, **named).description


def _state(place: LockPlace, document: Document | None) -> LockState:
    if document is None:
        return LockState(place.environment, place.service, held=False)
    content = document.content
    expires_at = document.modified_at + timedelta(seconds=content["ttl_s"])
    return LockState(
        place.environment,
        place.service,
        held=bool(content["nonce"]) and document.read_at < expires_at,
        holder=content["holder"],
        run_url=content.get("run_url", ""),
        command=content.get("command", ""),
        fence=content["fence"],
        since=content.get("since") or document.modified_at.isoformat(),
        expires_at=expires_at.isoformat(),
    )


def _locked(state: LockState, place: LockPlace) -> Locked:
    return Locked(
        f"`{place.service}` in `{place.environment}` is locked by {state.description} since {state.since}; "
        f"the lease ends at {state.expires_at} unless it is renewed.",
        f"wait for it, or if that run is dead: `{place.command}`",
    )


def _taken(place: LockPlace, present: Document | None, fence: int) -> Locked:
    content = present.content if present else {}
    who = (_described(content) if content.get("holder") else content.get("last")) or "another run"
    now = f" (fence {content['fence']}, ours was {fence})" if content else ""
    return Locked(
        f"The lock of `{place.service}` in `{place.environment}` was taken by {who}{now}; "
        "this run changes nothing more.",
        f"see what runs: `onnxship status --env {place.environment} --service {place.service}`",
    )
