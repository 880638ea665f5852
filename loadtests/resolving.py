"""Other addresses for a host's name, for this process alone: the name itself, and so TLS, stays what it was.

The name of an internet-facing load balancer is answered with its nodes' public addresses, also inside the VPC; from a
private subnet without a way out only their private ones can be reached.
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html (Scheme)
"""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any


def resolve(pairs: list[str], *modules: ModuleType) -> None:
    """From here on `getaddrinfo` of each module knows the pairs HOST=ADDRESS[,ADDRESS]; other hosts are looked up."""
    table = {host: addresses.split(",") for host, _, addresses in (pair.partition("=") for pair in pairs)}
    for module in modules if table else ():
        module.getaddrinfo = _looking_up(table, module.getaddrinfo)  # type: ignore[attr-defined]


def _looking_up(table: dict[str, list[str]], genuine: Any) -> Any:
    def getaddrinfo(host: str | bytes | None, port: Any, *more: Any, **named: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        known = table.get(name or "")
        if not known:
            return list(genuine(host, port, *more, **named))
        # In any order, as DNS gives them: each connection begins with another node.
        return [
            found for address in random.sample(known, len(known)) for found in genuine(address, port, *more, **named)
        ]

    return getaddrinfo
