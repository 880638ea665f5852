"""What containers reach of this machine's loopback, and who else does not."""

from __future__ import annotations

import asyncio
import sys

import pytest

from rehearsal.ecs.engines.relay import Relay, relocated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address")
ELSEWHERE = "127.0.0.2"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"echo " + await reader.read())
    await writer.drain()
    writer.close()


def said_through(subnet: str) -> bytes:
    """What comes back through a relay that serves `subnet`."""

    async def whole() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        relay = Relay(ELSEWHERE, subnet)
        text = await relay.translated(f"http://127.0.0.1:{port}/x", {port})
        assert text == f"http://{ELSEWHERE}:{port}/x"
        reader, writer = await asyncio.open_connection(ELSEWHERE, port)
        writer.write(b"hello")
        writer.write_eof()
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()
        await relay.close()
        server.close()
        return answer

    return asyncio.run(asyncio.wait_for(whole(), 20))


def test_both_directions_pass_to_their_ends() -> None:
    """What a container sends arrives whole, and so does the answer, though the sender has ended its half."""
    assert said_through("127.0.0.0/8") == b"echo hello"


def test_a_caller_from_elsewhere_is_turned_away() -> None:
    """Only the bridge's own subnet is served."""
    assert said_through("10.9.0.0/16") == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost:8000/a,http://127.0.0.1:8000", f"http://{ELSEWHERE}:8000/a,http://{ELSEWHERE}:8000"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("127.0.0.1:80001", "127.0.0.1:80001"),
        ("10.127.0.0.1:8000", "10.127.0.0.1:8000"),
        ("not-localhost:8000", "not-localhost:8000"),
    ],
)
def test_only_the_rehearsals_own_addresses_are_translated(text: str, expected: str) -> None:
    """A container's own loopback, and any other port of this machine, stay what they were."""

    assert relocated(text, ELSEWHERE, {8000}) == expected
