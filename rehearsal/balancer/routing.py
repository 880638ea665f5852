"""A listener's rules, compiled: which action a request meets, and which target group a forward picks.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html
"""

from __future__ import annotations

import hashlib
import random
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from aiohttp.web import BaseRequest

from rehearsal.balancer.conditions import Matcher, matcher
from rehearsal.balancer.targets import Pool

GROUP_COOKIE = "AWSALBTG"


@dataclass(frozen=True)
class Fixed:
    """Answers by itself."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True)
class Redirect:
    """Sends the client elsewhere; the fields may hold #{protocol}, #{host}, #{port}, #{path} and #{query}."""

    status: int
    protocol: str
    host: str
    port: str
    path: str
    query: str


@dataclass(frozen=True)
class Forward:
    """Forwards to one of several target groups by weight. `sticky_s` is None without group stickiness."""

    groups: tuple[tuple[str, Pool], ...]
    bounds: tuple[int, ...]
    sticky_s: int | None

    def choose(self, request: BaseRequest) -> tuple[str, Pool] | None:
        """The target group (ARN and pool) of this request, None when every weight is 0.

        A group with weight and without targets is not skipped: AWS does not fail over between target groups.
        """
        total = self.bounds[-1]
        if total == 0:
            return None
        if self.sticky_s is not None and (stuck := self._stuck(request.cookies.get(GROUP_COOKIE))):
            return stuck
        if len(self.groups) == 1:
            return self.groups[0]
        return self.groups[bisect_right(self.bounds, random.random() * total)]  # noqa: S311 - spreads load

    def _stuck(self, cookie: str | None) -> tuple[str, Pool] | None:
        """The group that the client's cookie names, while it has weight."""
        lower = 0
        for group, upper in zip(self.groups, self.bounds, strict=True):
            if upper > lower and cookie == group_token(group[0]):
                return group
            lower = upper
        return None


Action = Fixed | Redirect | Forward


class Routes:
    """What a listener answers by. `table` is replaced as a whole, so no request sees half a change."""

    def __init__(self) -> None:
        self.table: tuple[tuple[tuple[Matcher, ...], Action], ...] = ()

    def action_for(self, request: BaseRequest, path: str) -> Action:
        """The action of the first rule whose conditions the request meets; the last rule has none."""
        for conditions, action in self.table:
            for condition in conditions:
                if not condition(request, path):
                    break
            else:
                return action
        raise LookupError("a listener without a default rule")

    def replace(self, rules: list[dict[str, Any]], pool_of: Callable[[str], Pool]) -> None:
        """Answer by these rules from the next request on."""
        self.table = tuple(
            (tuple(matcher(condition) for condition in rule["Conditions"]), action(rule["Actions"], pool_of))
            for rule in rules
        )


def action(actions: list[dict[str, Any]], pool_of: Callable[[str], Pool]) -> Action:
    """The one action of a rule, from its normalised form."""
    (only,) = actions
    if only["Type"] == "fixed-response":
        fixed = only["FixedResponseConfig"]
        return Fixed(int(fixed["StatusCode"]), fixed.get("ContentType", "text/plain"), fixed.get("MessageBody", ""))
    if only["Type"] == "redirect":
        to = only["RedirectConfig"]
        status = int(to["StatusCode"].removeprefix("HTTP_"))
        return Redirect(status, to["Protocol"], to["Host"], to["Port"], to["Path"], to["Query"])
    config = only["ForwardConfig"]
    groups = tuple((group["TargetGroupArn"], pool_of(group["TargetGroupArn"])) for group in config["TargetGroups"])
    bounds = tuple(accumulate(group.get("Weight", 1) for group in config["TargetGroups"]))
    stickiness = config["TargetGroupStickinessConfig"]
    return Forward(groups, bounds, stickiness.get("DurationSeconds") if stickiness["Enabled"] else None)


def group_token(target_group_arn: str) -> str:
    """What stands in the stickiness cookie for a target group."""
    return hashlib.sha256(target_group_arn.encode()).hexdigest()[:32]


def cookie(name: str, value: str, seconds: int) -> str:
    """A Set-Cookie header's value.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """
    expires = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))
    return f"{name}={value}; Expires={expires}; Path=/"
