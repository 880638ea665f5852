"""The conditions of a listener rule as functions of a request.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from aiohttp.web import BaseRequest

from rehearsal.context import LOOPBACK

Matcher = Callable[[BaseRequest, str], bool]

CONFIGS = {
    "path-pattern": "PathPatternConfig",
    "host-header": "HostHeaderConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}


def values_of(condition: dict[str, Any]) -> list[Any]:
    """The values of a condition, written the short way (Values) or the long way (...Config)."""
    config = condition.get(CONFIGS[condition["Field"]], {})
    return list(config.get("Values") or condition.get("Values") or [])


def matcher(condition: dict[str, Any]) -> Matcher:
    """True for the requests that meet the condition; the path comes without its query."""
    return COMPILERS[condition["Field"]](condition)


def pattern(values: list[str], ignore_case: bool) -> re.Pattern[str]:
    """`*` stands for any characters, `?` for exactly one, a backslash before them for themselves."""
    return re.compile("|".join(_translated(value) for value in values), re.IGNORECASE if ignore_case else 0)


def _translated(value: str) -> str:
    pieces = re.findall(r"\\[*?\\]|[*?]|[^*?\\]+|\\", value)
    return "".join({"*": ".*", "?": "."}.get(piece) or re.escape(re.sub(r"^\\(?=.)", "", piece)) for piece in pieces)


def _path(condition: dict[str, Any]) -> Matcher:
    full_match = pattern(values_of(condition), ignore_case=False).fullmatch
    return lambda request, path: full_match(path) is not None


def _host(condition: dict[str, Any]) -> Matcher:
    full_match = pattern(values_of(condition), ignore_case=True).fullmatch
    return lambda request, path: full_match(request.headers.get("Host", "").partition(":")[0]) is not None


def _header(condition: dict[str, Any]) -> Matcher:
    name = condition["HttpHeaderConfig"]["HttpHeaderName"]
    full_match = pattern(values_of(condition), ignore_case=True).fullmatch
    return lambda request, path: any(full_match(value) for value in request.headers.getall(name, ()))


def _method(condition: dict[str, Any]) -> Matcher:
    methods = frozenset(values_of(condition))
    return lambda request, path: request.method in methods


def _query(condition: dict[str, Any]) -> Matcher:
    wanted = [
        (pattern([pair["Key"]], True) if pair.get("Key") else None, pattern([pair["Value"]], True))
        for pair in values_of(condition)
    ]

    def matches(request: BaseRequest, path: str) -> bool:
        return any(
            (key is None or key.fullmatch(name)) and value.fullmatch(given)
            for name, given in request.query.items()
            for key, value in wanted
        )

    return matches


def _source(condition: dict[str, Any]) -> Matcher:
    networks = [ipaddress.ip_network(value) for value in values_of(condition)]
    return lambda request, path: any(ipaddress.ip_address(request.remote or LOOPBACK) in net for net in networks)


COMPILERS: dict[str, Callable[[dict[str, Any]], Matcher]] = {
    "path-pattern": _path,
    "host-header": _host,
    "http-header": _header,
    "http-request-method": _method,
    "query-string": _query,
    "source-ip": _source,
}
