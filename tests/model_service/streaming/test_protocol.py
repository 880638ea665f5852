"""How long a stream's connection is waited for: pings that are not answered, and silence that is not the caller's."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvicorn
from starlette.websockets import WebSocket, WebSocketDisconnect

from model_service.streaming.protocol import stream_protocol

PING_S = 0.2
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A

Talk = Callable[["Caller"], Coroutine[Any, Any, None]]


class Caller:
    """A connection whose caller sends byte by byte what it will, and answers no ping by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, content: bytes) -> None:
        self._writer.write(content)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: first byte, and content."""
        opcode, length = await self._reader.readexactly(2)
        return opcode, await self._reader.readexactly(length)


def masked(opcode: int, content: bytes) -> bytes:
    """A caller's frame, of less than 126 bytes."""
    mask = os.urandom(4)
    return bytes([opcode, 0x80 | len(content)]) + mask + bytes(c ^ mask[at % 4] for at, c in enumerate(content))


@contextlib.asynccontextmanager
async def connected(pause_s: float) -> AsyncIterator[Caller]:
    """A caller of an application that pauses before it takes each message, and sends it back."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await asyncio.sleep(pause_s)
                await websocket.send_text(await websocket.receive_text())

    config = uvicorn.Config(
        app, port=0, ws=stream_protocol(30), ws_ping_interval=PING_S, ws_ping_timeout=PING_S, log_config=None
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    yield Caller(reader, writer)
    writer.close()
    server.should_exit = True
    await running


def run(talk: Talk, pause_s: float = 0.0) -> None:
    async def connect() -> None:
        async with connected(pause_s) as caller:
            await asyncio.wait_for(talk(caller), 30)

    asyncio.run(connect())


def test_a_caller_that_answers_no_ping_is_given_up() -> None:
    """Neither pong nor anything else: 1011."""

    async def talk(caller: Caller) -> None:
        assert PING == (await caller.frame())[0]
        opcode, content = await caller.frame()
        assert (CLOSE, 1011) == (opcode, int.from_bytes(content[:2]))

    run(talk)


def test_a_pong_keeps_a_caller() -> None:
    """Each ping that is answered is followed by the next."""

    async def talk(caller: Caller) -> None:
        for _ in range(5):
            opcode, content = await caller.frame()
            assert PING == opcode
            caller.send(masked(PONG, content))

    run(talk)


def test_a_frame_that_takes_long_keeps_its_caller() -> None:
    """Within a frame no pong can be sent: who sends at all is there."""

    async def talk(caller: Caller) -> None:
        for byte in masked(TEXT, b"a slow line"):
            caller.send(bytes([byte]))
            await asyncio.sleep(PING_S / 2)
        opcodes = [(await caller.frame())[0], (await caller.frame())[0]]
        assert {PING, TEXT} == set(opcodes)

    run(talk)


def test_a_pong_behind_messages_that_wait_keeps_its_caller() -> None:
    """While the service does not read, the silence is its own: all messages are answered, however long that takes."""

    async def talk(caller: Caller) -> None:
        caller.send(b"".join(masked(TEXT, b"%d" % number) for number in range(4)))
        answers = []
        while len(answers) < 4:
            opcode, content = await caller.frame()
            if opcode == PING:
                caller.send(masked(PONG, content))
            else:
                assert TEXT == opcode
                answers.append(content)
        assert [b"0", b"1", b"2", b"3"] == answers

    run(talk, pause_s=3 * PING_S)
