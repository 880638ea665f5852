"""The streams that are open in this process, and how they are told to leave."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

from model_service.errors import RequestRefused
from model_service.served import Served
from model_service.settings import Settings
from model_service.streaming.session import Session

AGE_JITTER = 0.2  # so that callers which came together, after a deployment, do not all come again together


class Sessions:
    """All open streams, at most STREAM_MAX_SESSIONS. On the event loop alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: set[Session] = set()
        self._one_closed = asyncio.Event()
        self._all_leave_at: float | None = None

    def refuse_if_full(self) -> None:
        """Raise RequestRefused(503) where no further stream may be opened."""
        if self._left_s() == 0:
            raise RequestRefused(503, "the service is stopping", retry_after_s=1)
        if len(self._open) >= self._settings.stream_max_sessions:
            raise RequestRefused(503, f"{len(self._open)} streams are open already", retry_after_s=1)

    async def run(self, session: Session) -> None:
        """Serve `session` to its end: it is told to leave when it is old, and at once if all are leaving."""
        age_s = self._settings.stream_max_session_s * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)  # noqa: S311
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(age_s, session.go_away, f"open for {age_s:.0f} s", self._settings.drain_s)
        left_s = self._left_s()
        if left_s is not None:
            session.go_away("the service is stopping", left_s)
        try:
            await session.run()
        finally:
            expiry.cancel()

    @contextmanager
    def opened(self, session: Session) -> Iterator[None]:
        """Count `session` as open, from before its caller is told that it is."""
        self._open.add(session)
        session.served.stats.stream_sessions += 1
        try:
            yield
        finally:
            self._open.discard(session)
            session.served.stats.stream_sessions -= 1
            self._one_closed.set()

    def all_go_away(self) -> None:
        """Tell all streams, and those that are opened until then, to leave within DRAIN_S."""
        deadline_s = self._settings.drain_s
        self._all_leave_at = asyncio.get_running_loop().time() + deadline_s
        for session in self._open:
            session.go_away("the service is stopping", deadline_s)

    async def leave(self, served: Served) -> None:
        """Return when no stream is left on `served`, which is being retired; they have DRAIN_S to leave."""
        mine = {session for session in self._open if session.served is served}
        for session in mine:
            session.go_away("another version serves now", self._settings.drain_s)
        await self._closed(mine)

    async def all_closed(self) -> None:
        """Return when no stream is open."""
        await self._closed(self._open)

    async def _closed(self, sessions: set[Session]) -> None:
        while sessions & self._open:
            self._one_closed.clear()
            await self._one_closed.wait()

    def _left_s(self) -> float | None:
        """Seconds until all streams have to be closed; None if they have not to."""
        if self._all_leave_at is None:
            return None
        return max(0.0, self._all_leave_at - asyncio.get_running_loop().time())
