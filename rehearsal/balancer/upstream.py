"""Connections from the load balancer to the targets."""

from __future__ import annotations

import select
from typing import Any

import aiohttp
from aiohttp.connector import Connection

# Targets must keep idle connections longer than the load balancer does, or requests get lost in between. A real ALB
# keeps them for its idle timeout (60 s); ours lets go sooner than uvicorn's default of 5 s.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
KEEP_IDLE_S = 4.0


class Connector(aiohttp.TCPConnector):
    """A keep-alive pool that never reuses a connection its target has closed in the meantime.

    The loop notices an end of stream only on its next turn; a POST sent before that could not be repeated safely.
    """

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.transport is not None and not has_news(connection.transport):
                return connection
            connection.close()
        return None


def has_news(transport: Any) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def open_session() -> aiohttp.ClientSession:
    """The session that all requests to targets go by: nothing is added, decoded or followed."""
    return aiohttp.ClientSession(
        connector=Connector(limit=0, keepalive_timeout=KEEP_IDLE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=2**18,
        max_line_size=2**16,
        max_field_size=2**16,
    )
