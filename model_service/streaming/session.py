"""One stream: its messages become jobs of one version of one model, several at once, answered in their order.

No more than STREAM_IN_FLIGHT messages are unanswered: a caller that sends faster than the model runs, or reads slower,
is not read from until an answer has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from model_service.errors import RequestRefused, as_refused
from model_service.scheduling.job import Answer, Job
from model_service.served import Served
from model_service.settings import Settings
from model_service.streaming.frames import Frame, FrameWork, answer_frame, error_frame, going_away_frame

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
GOING_AWAY, SERVICE_RESTART, LOST = 1001, 1012, 1006


class Ending(NamedTuple):
    """How the stream is closed from this side."""

    code: int
    reason: str


class Exchange:
    """A message that was taken: in work while it has a `job`, done when it has the `frame` that answers it."""

    __slots__ = ("frame", "job")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.frame: Frame | None = None


class Session:
    """A stream from its opening to its end. `close_code` says afterwards how it ended."""

    def __init__(self, websocket: WebSocket, served: Served, settings: Settings, request_id: str) -> None:
        self.served = served
        self.messages = 0
        self.errors = 0
        self.close_code = LOST
        self._websocket = websocket
        self._settings = settings
        self._request_id = request_id
        self._loop = asyncio.get_running_loop()
        self._exchanges: deque[Exchange] = deque()
        self._outbox: deque[Frame] = deque()
        self._something_to_do = asyncio.Event()  # for the writer
        self._room = asyncio.Event()  # for the reader
        self._ending: Ending | None = None
        self._reader: asyncio.Task[None] | None = None
        self._limit = asyncio.timeout(None)
        self._leaving: asyncio.TimerHandle | None = None
        self._last_active = self._loop.time()

    @property
    def unanswered(self) -> int:
        """Messages that were taken and whose answers have not left."""
        return len(self._exchanges) + len(self._outbox)

    def go_away(self, reason: str, deadline_s: float) -> None:
        """Tell the caller that the stream is closed in `deadline_s`; until then all of its messages are answered."""
        deadline = self._loop.time() + deadline_s
        if self._ending or (self._leaving and self._leaving.when() <= deadline):
            return
        if self._leaving:
            self._leaving.cancel()
        self._leaving = self._loop.call_at(deadline, self.finish, Ending(SERVICE_RESTART, reason))
        self._outbox.append(going_away_frame(deadline_s))
        self._something_to_do.set()

    def finish(self, ending: Ending) -> None:
        """Take no further message, answer those that were taken, within SHUTDOWN_S, and close."""
        if self._ending:
            return
        self._ending = ending
        if self._reader:
            self._end(self._reader)

    def _end(self, reader: asyncio.Task[None]) -> None:
        reader.cancel()
        self._limit.reschedule(self._loop.time() + self._settings.shutdown_s)
        self._something_to_do.set()

    async def run(self) -> None:
        """Serve the stream until either side closes it."""
        self._reader = self._loop.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._something_to_do.set())
        idle = self._loop.create_task(self._finish_when_idle())
        try:
            with contextlib.suppress(TimeoutError, WebSocketDisconnect):  # `close_code` tells
                async with self._limit:
                    if self._ending:
                        self._end(self._reader)
                    await self._write()
                    await self._close()
        finally:
            idle.cancel()
            self._reader.cancel()
            if self._leaving:
                self._leaving.cancel()
            for exchange in self._exchanges:
                if exchange.job:
                    exchange.job.give_up()

    async def _close(self) -> None:
        if self._ending:
            await self._websocket.close(*self._ending)
            self.close_code = self._ending.code

    # Messages in.

    async def _read(self) -> None:
        """Take messages until the caller closes."""
        while True:
            while self.unanswered >= self._settings.stream_in_flight:
                self._room.clear()
                await self._room.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self.close_code = message.get("code") or LOST
                return
            self._take(message)

    def _take(self, message: Message) -> None:
        self.messages += 1
        self._last_active = self._loop.time()
        text, settings = message.get("text"), self._settings
        frame = message["bytes"] if text is None else text.encode()
        work = FrameWork(
            self.served.model,
            frame,
            binary=text is None,
            max_rows=settings.max_rows,
            labels_of=self.served.labels_of,
        )
        exchange = Exchange()
        self._exchanges.append(exchange)
        exchange.job = Job(
            work,
            lambda job: self._on_done(exchange, job, work.request_id),
            endpoint="stream",
            size_bytes=len(frame),
            timeout_s=settings.request_timeout_s,
        )
        try:
            self.served.scheduler.submit(exchange.job)
        except RequestRefused as refused:
            self._answer(exchange, self._error(refused, None))

    # Answers out.

    def _on_done(self, exchange: Exchange, job: Job, request_id: str | None) -> None:
        outcome = job.outcome
        if isinstance(outcome, Answer):
            self._answer(exchange, answer_frame(outcome))
        else:
            self._answer(exchange, self._error(outcome, request_id))

    def _error(self, error: Exception, request_id: str | None) -> Frame:
        self.errors += 1
        return error_frame(as_refused(error, self._request_id), request_id)

    def _answer(self, exchange: Exchange, frame: Frame) -> None:
        """Let the answers go whose turn it is."""
        exchange.frame, exchange.job = frame, None
        while self._exchanges and (first := self._exchanges[0].frame) is not None:
            self._exchanges.popleft()
            self._outbox.append(first)
        self._something_to_do.set()

    async def _write(self) -> None:
        """Send what there is to send, until the caller has closed, or all is answered that was taken before the end."""
        assert self._reader is not None
        while True:
            while self._outbox and not self._is_closed_by_caller:
                await self._send(self._outbox[0])
                self._outbox.popleft()
                self._last_active = self._loop.time()
                self._room.set()
            if self._is_closed_by_caller:
                self._reader.result()  # if it has failed, so does the session
                return
            if self._ending and not self.unanswered:
                return
            self._something_to_do.clear()
            await self._something_to_do.wait()

    @property
    def _is_closed_by_caller(self) -> bool:
        return self._reader is not None and self._reader.done() and not self._reader.cancelled()

    async def _send(self, frame: Frame) -> None:
        if isinstance(frame, str):
            await self._websocket.send_text(frame)
        else:
            await self._websocket.send_bytes(frame)

    async def _finish_when_idle(self) -> None:
        """Close a stream over which nothing has gone for STREAM_IDLE_S: pings would keep it open for ever."""
        idle_s = self._settings.stream_idle_s
        while (left_s := self._last_active + idle_s - self._loop.time()) > 0 or self.unanswered:
            await asyncio.sleep(left_s if left_s > 0 else 1.0)
        self.finish(Ending(GOING_AWAY, f"idle for {idle_s:g} s"))
