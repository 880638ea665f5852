"""Who uses the service while it is switched: requests on a fixed schedule, and sockets that talk all the time."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp
from aiohttp import WSMsgType

REQUESTS_PER_SECOND = 100
SOCKETS = 10
MESSAGE_EVERY_S = 0.1
TIMEOUT_S = 10.0
ENDED_BY_SERVICE = (1001, 1012)  # going away, service restart: https://www.iana.org/assignments/websocket
USER_AGENT = "switches/1"


@dataclass
class Session:
    """One socket from its opening to its end."""

    opened_at: float
    targets: set[str] = field(default_factory=set)
    sent: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    close_code: int | None = None

    @property
    def problem(self) -> str:
        """What was not as it must be; empty when all was."""
        if len(self.targets) != 1:
            return f"answered by {sorted(self.targets)}"
        if self.answered != self.sent:
            return f"{len(self.sent)} messages sent, {len(self.answered)} answered"
        return "" if self.close_code in ENDED_BY_SERVICE else f"ended with {self.close_code}"


@dataclass
class Seen:
    """What all users saw."""

    requests: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    lost_connections: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return sum(len(session.sent) for session in self.sessions)


class Users:
    """A thread with the users' own loop: they come with `with` and leave, having heard all answers, at its end."""

    def __init__(self, url: str) -> None:
        self.seen = Seen()
        self._url = url
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Users:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    async def _all(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        headers = {"User-Agent": USER_AGENT}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:
            await asyncio.gather(self._requests(http), *(self._talk_again(http) for _ in range(SOCKETS)))

    async def _requests(self, http: aiohttp.ClientSession) -> None:
        """Requests leave on the schedule, whether or not earlier ones were answered (an open loop)."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as sent:
            for number in itertools.count(1):
                if self._ending.is_set():
                    return
                sent.create_task(self._request(http))
                await asyncio.sleep(max(0.0, begun + number / REQUESTS_PER_SECOND - time.monotonic()))

    async def _request(self, http: aiohttp.ClientSession) -> None:
        begun = time.monotonic()
        try:
            async with http.get(self._url) as answer:
                text = await answer.text()
                if answer.status != 200:
                    self.seen.failures.append(f"{answer.status}: {text[:80]}")
                else:
                    self.seen.requests[json.loads(text)["target"]] += 1
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.seen.failures.append(repr(error))
        self.seen.latencies_s.append(time.monotonic() - begun)

    async def _talk_again(self, http: aiohttp.ClientSession) -> None:
        """One user: whenever a session has ended, the next one."""
        while not self._ending.is_set():
            session = Session(time.monotonic())
            try:
                async with http.ws_connect(f"{self._url}/socket") as socket:
                    self.seen.sessions.append(session)
                    await self._talk(socket, session)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.seen.lost_connections.append(repr(error))

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse, session: Session) -> None:
        speaking = asyncio.create_task(_speak(socket, session))
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            said = json.loads(message.data)
            session.targets.add(said["target"])
            if "echo" in said:
                session.answered.append(said["echo"])
            if "leave" in said:
                speaking.cancel()
                await socket.send_str("bye")
        speaking.cancel()
        session.close_code = socket.close_code


async def _speak(socket: aiohttp.ClientWebSocketResponse, session: Session) -> None:
    """A message on every beat; one that is on its way has been noted as sent."""
    for number in itertools.count():
        session.sent.append(number)
        await socket.send_str(str(number))
        await asyncio.sleep(MESSAGE_EVERY_S)
