"""What the load balancer's weights allow: which release had which share of production, and when."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import sqrt
from typing import Any

from demo.ledger import Request

UNKNOWN = "(nobody's)"
SIGMAS = 4
AT_THE_EDGES = 4  # requests of an interval that a connection, opened before it, may still lead elsewhere


@dataclass(frozen=True)
class Run:
    """A command that may put `release` into production, from `began` to `ended` in seconds since the epoch."""

    release: str
    began: float
    ended: float


@dataclass(frozen=True)
class Change:
    """From `at` on these releases have these percentages of production."""

    at: float
    shares: dict[str, float]


def changes(weights: list[dict[str, Any]], port: int, runs: list[Run]) -> list[Change]:
    """The changes of the listener's weights, as shares of releases.

    The first target group that gains weight during a command is given to that command's release; one that regains
    weight in the same command is the former release's still (a rollback).
    """
    holders: dict[str, str] = {}
    placed: set[Run] = set()
    told: list[Change] = []
    previous: dict[str, int] = {}
    for weighed in (change for change in weights if change["listener_port"] == port):
        at = datetime.fromisoformat(weighed["time"]).timestamp()
        now = {group: weight for group, weight in weighed["weights"].items() if weight}
        run = next((run for run in runs if run.began <= at <= run.ended), None)
        for group in now.keys() - previous.keys():
            if run and (run not in placed or group not in holders):
                holders[group] = run.release
                placed.add(run)
        shares: dict[str, float] = {}
        for group, weight in now.items():
            release = holders.get(group, UNKNOWN)
            shares[release] = shares.get(release, 0) + 100 * weight / sum(now.values())
        if not told or told[-1].shares != shares:
            told.append(Change(at, shares))
        previous = now
    return told


def replaced(runs: list[Run]) -> list[Change]:
    """What may answer when tasks are replaced one by one and no weight moves: during a run the old and the new."""
    told: list[Change] = []
    former: dict[str, float] = {}
    for run in runs:
        told += [Change(run.began, {**former, run.release: 100}), Change(run.ended, {run.release: 100})]
        former = {run.release: 100}
    return told


def in_full(told: list[Change]) -> list[str]:
    """The releases that had all of production, one after the other."""
    full = [next(iter(change.shares)) for change in told if len(change.shares) == 1]
    return [release for number, release in enumerate(full) if number == 0 or full[number - 1] != release]


def against_weights(requests: list[Request], told: list[Change]) -> list[str]:
    """Answers that the weights do not allow, in words.

    A request may be answered by any release that had a share at some moment between its start and its end.
    """
    times = [change.at for change in told]
    wrong = []
    for request in requests:
        first, last = bisect_right(times, request.start) - 1, bisect_right(times, request.end) - 1
        allowed = {release for change in told[max(first, 0) : last + 1] for release in change.shares}
        if request.release not in allowed and (request.release or not request.failed):
            wrong.append(f"a request of {request.start:.3f} was answered by {request.release}, not {sorted(allowed)}")
    return wrong


def against_shares(requests: list[Request], told: list[Change]) -> list[str]:
    """Where releases that shared production were given other shares of the requests than their weights, in words.

    What chance allows is four standard deviations of a binomial count, and some requests at the edges.
    """
    wrong = []
    for change, following in pairwise(told):
        within = [request for request in requests if change.at <= request.start < following.at]
        seen = Counter(request.release for request in within)
        for release, percent in change.shares.items() if len(change.shares) > 1 else ():
            wanted = len(within) * percent / 100
            noise = SIGMAS * sqrt(wanted * (1 - percent / 100)) + AT_THE_EDGES
            if abs(seen[release] - wanted) > noise:
                wrong.append(
                    f"{release} answered {seen[release]} of {len(within)} requests at a weight of {percent:g} %; "
                    f"{wanted:.0f} ± {noise:.0f} were to be expected"
                )
    return wrong
