"""Lets containers reach what listens on this machine's loopback: the AWS endpoint and the load balancer's listeners.

A container has a 127.0.0.1 of its own. From its bridge network it sees this machine under the bridge's gateway address,
where nothing of the rehearsal listens; making it listen on all addresses would open it to other machines. So each port
that a task needs is opened on the gateway address too, under the same number, and what comes in is passed on. That
address is this machine's alone, and callers from outside the bridge's own subnet are turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Collection

from rehearsal.context import LOOPBACK

CHUNK_BYTES = 1 << 16
ON_LOOPBACK = re.compile(r"(?<![\w.-])(?:127\.0\.0\.1|localhost):(\d{1,5})(?!\d)")


class Relay:
    """TCP from one address of this machine to the same ports of loopback."""

    def __init__(self, address: str, subnet: str) -> None:
        self.address = address
        self._subnet = ipaddress.ip_network(subnet)
        self._servers: dict[int, asyncio.Server] = {}

    async def open(self, port: int) -> None:
        """Pass on `port`; OSError when it cannot be had."""
        if port not in self._servers:
            self._servers[port] = await asyncio.start_server(
                lambda reader, writer: self._carry(port, reader, writer), self.address, port
            )

    async def translated(self, text: str, ports: Collection[int]) -> str:
        """`text` as a container understands it, and every port that it names by this relay passed on."""
        for port in {int(found) for found in ON_LOOPBACK.findall(text)} & set(ports):
            await self.open(port)
        return relocated(text, self.address, ports)

    async def close(self) -> None:
        """Pass on nothing more."""
        for server in self._servers.values():
            server.close()

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if ipaddress.ip_address(writer.get_extra_info("peername")[0]) not in self._subnet:
                return
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
            finally:
                inner_writer.close()
        except OSError:
            pass  # one of the two ends is gone; closing the other tells it so
        finally:
            writer.close()


def relocated(text: str, address: str, ports: Collection[int]) -> str:
    """`text` with `address` in place of loopback wherever one of `ports` follows."""
    return ON_LOOPBACK.sub(lambda found: f"{address}:{found[1]}" if int(found[1]) in ports else found[0], text)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    with contextlib.suppress(OSError):  # the other direction may have ended the connection already
        sink.write_eof()
