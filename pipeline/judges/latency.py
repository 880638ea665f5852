"""Judges whether a new release is slower than what serves, by answers to the same requests at the same time.

Median, p95 and p99 are compared as ratios, new over live. How far chance alone may move a ratio is found by bootstrap:
each side is drawn again from its own answers, thousands of times; the middle 98 % of the ratios are the noise band.
Moments that were slow for both sides move both the same way, and the band is as much narrower. Only when the whole band
is above the limit is the release slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.results import Verdict
from pipeline.words import counted

Array = np.ndarray[Any, Any]
Numbers = dict[str, float | int | str]

MIN_ANSWERS = 50  # of each side; with fewer the band of even the median is wider than what is looked for
PERCENTILES = {"median": 50, "p95": 95, "p99": 99}
MIN_ANSWERS_FOR_P99 = 100  # below, the p99 is the single slowest answer
# Between two listeners as good as equal a connection, a scheduler's turn or a garbage collection differ by that much,
# and no user notices it: 0.8 ms against 0.4 ms is twice as much of nothing.
MIN_DIFFERENCE_MS = 1.0
BAND = (0.01, 0.99)
DRAWS = 4000
MAX_SHARED = 0.999  # of a whole 1 there is no Fisher's z
RESOLUTION_MS = 0.001
OFF = "set services.<name>.gate.against_live: null to judge by the thresholds alone"


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of the comparison: the times of its good answers, and how many requests it got and failed."""

    times_ms: Sequence[float]
    requests: int
    failures: int
    releases: Mapping[str, int] = field(default_factory=dict)
    first_failure: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A percentile of both sides, their ratio, and the band in which chance alone may move it."""

    name: str
    new_ms: float
    live_ms: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.new_ms / self.live_ms

    def is_slower(self, max_ratio: float) -> bool:
        return self.low > max_ratio and self.new_ms - self.live_ms >= MIN_DIFFERENCE_MS

    def is_doubtful(self, max_ratio: float) -> bool:
        """Above the limit as measured, but not surely, or by too little to be felt."""
        return self.value > max_ratio and not self.is_slower(max_ratio)

    @property
    def brief(self) -> str:
        return f"{self.name} x{self.value:.3g}"

    @property
    def words(self) -> str:
        band = f"x{self.value:.3g}; with noise x{self.low:.3g} to x{self.high:.3g}"
        return f"{self.name} {self.new_ms:.1f} ms against {self.live_ms:.1f} ms ({band})"

    @property
    def numbers(self) -> Numbers:
        key = f"p{PERCENTILES[self.name]}"
        return {
            f"new_{key}_ms": round(self.new_ms, 3), f"live_{key}_ms": round(self.live_ms, 3),
            f"{key}_ratio": round(self.value, 3), f"{key}_ratio_low": round(self.low, 3),
            f"{key}_ratio_high": round(self.high, 3),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdict, its reason in a sentence, the numbers it rests on, and `details`: them in words, or what to do."""

    verdict: Verdict
    reason: str
    numbers: Numbers
    details: tuple[str, ...] = ()


def judge_beside_live(
    new: Arm, live: Arm, *, live_url: str, release_id: str | None, max_ratio: float
) -> Compared:  # fmt: skip
    """The new release against what serves. Where that cannot be measured, nothing is decided and the reason says so."""
    numbers: Numbers = {
        "compared_requests": new.requests, "live_requests": live.requests, "live_failures": live.failures,
        "max_latency_ratio": max_ratio,
    }  # fmt: skip
    if release_id and live.releases.get(release_id):
        said = f"release `{release_id}` answers at {live_url} already: there is nothing else to compare it with"
        return Compared(Verdict.INCONCLUSIVE, said, numbers, (OFF,))
    if len(_measured(live.times_ms)) < MIN_ANSWERS:
        return Compared(Verdict.INCONCLUSIVE, _too_few_of_live(live, live_url), numbers, _to_reach_live(live))
    compared = judge_against_live(new.times_ms, live.times_ms, max_ratio=max_ratio)
    failed = (f"what serves failed {live.failures} of {live.requests} requests",) if live.failures else ()
    return replace(compared, numbers=numbers | compared.numbers, details=compared.details + failed)


def judge_against_live(
    new_ms: Sequence[float] | Array, live_ms: Sequence[float] | Array, *, max_ratio: float
) -> Compared:  # fmt: skip
    """Response times of both: fail when a percentile's whole noise band is above `max_ratio`, pass when none is.

    The same times give the same verdict: the draws are seeded.
    """
    new, live = _measured(new_ms), _measured(live_ms)
    for side, times in (("the new release", new), ("what serves", live)):
        if len(times) < MIN_ANSWERS:
            few = f"{counted(len(times), 'answer')} of {side} {'is' if len(times) == 1 else 'are'} too few to compare"
            said = f"{few}; at least {MIN_ANSWERS} (rps x duration_s of gate.against_live)"
            return Compared(Verdict.INCONCLUSIVE, said, {})
    ratios = _ratios(new, live)
    numbers: Numbers = {}
    for ratio in ratios:
        numbers |= ratio.numbers
    slower = [ratio for ratio in ratios if ratio.is_slower(max_ratio)]
    reason = _why_slower(slower, max_ratio) if slower else _why_not_slower(ratios, max_ratio)
    verdict = Verdict.FAIL if slower else Verdict.PASS
    return Compared(verdict, reason, numbers, tuple(ratio.words for ratio in ratios))


def words_on_shared_failures(new: Arm, live: Arm) -> str:
    """Where what serves fails the same requests about as often: that the fault may not be the new release's."""
    if not live.failures or 2 * live.failures < new.failures:
        return ""
    said = f"what serves failed {live.failures} of {live.requests} of the same requests, too"
    return f"{said} (the new release {new.failures}): the fault may be shared"


def _too_few_of_live(live: Arm, url: str) -> str:
    good = len(_measured(live.times_ms))
    said = f"what serves gave {counted(good, 'good answer')} to {counted(live.requests, 'request')} at {url}"
    return f"{said}, too few to compare the new release with (at least {MIN_ANSWERS})"


def _to_reach_live(live: Arm) -> tuple[str, ...]:
    first = (f"its first failure: {live.first_failure}",) if live.first_failure else ()
    remedy = "let the gate reach it (edge.ingress_cidrs) and give it time (gate.against_live.duration_s)"
    return (*first, f"{remedy}, or {OFF}")


def _why_slower(slower: Sequence[Ratio], max_ratio: float) -> str:
    first, *others = slower
    too = f"; {', '.join(ratio.brief for ratio in others)}" if others else ""
    return (
        f"slower than what serves: {first.name} {first.new_ms:.1f} ms against {first.live_ms:.1f} ms "
        f"(x{first.value:.3g}{too}), at most x{max_ratio:g}"
    )


def _why_not_slower(ratios: Sequence[Ratio], max_ratio: float) -> str:
    doubtful = [ratio for ratio in ratios if ratio.is_doubtful(max_ratio)]
    if not doubtful:
        return f"not slower than what serves ({', '.join(r.brief for r in ratios)}; at most x{max_ratio:g})"
    unsure = [ratio.brief for ratio in doubtful if ratio.low <= max_ratio]
    small = [ratio.brief for ratio in doubtful if ratio.low > max_ratio]
    parts = [f"perhaps slower than what serves, too uncertain to refuse at x{max_ratio:g}: " + ", ".join(unsure)]
    less = [f"slower than what serves by less than {MIN_DIFFERENCE_MS:g} ms: " + ", ".join(small)]
    return "; ".join((parts if unsure else []) + (less if small else []))


def _measured(times_ms: Sequence[float] | Array) -> Array:
    """In the order of time; NaN and infinity are no measurements."""
    values = np.asarray(times_ms, dtype=np.float64)
    measured: Array = np.maximum(values[np.isfinite(values)], RESOLUTION_MS)
    return measured


def _ratios(new: Array, live: Array) -> list[Ratio]:
    random = np.random.default_rng(0)
    has_p99 = min(len(new), len(live)) >= MIN_ANSWERS_FOR_P99
    found = []
    for name, percent in PERCENTILES.items():
        if percent == 99 and not has_p99:
            continue
        drawn = _redrawn(new, percent, random), _redrawn(live, percent, random)
        low, high = np.quantile(np.divide(*_drawn_together(*drawn, _shared(new, live, percent), random)), BAND)
        found.append(Ratio(name, _percentile(new, percent), _percentile(live, percent), float(low), float(high)))
    return found


def _redrawn(times: Array, percent: int, random: np.random.Generator) -> Array:
    """The percentile in DRAWS bootstrap samples, without drawing the samples.

    The k-th smallest of n draws with replacement is the value at index floor(n U), where U is the k-th smallest of n
    uniform numbers; that is distributed as Beta(k, n - k + 1). Where slow answers come in bursts, n answers say no more
    than n / burst independent ones would.
    """
    ordered, rank = np.sort(times), _rank(times, percent)
    burst = _burst(times >= ordered[rank - 1])
    places = random.beta(rank / burst, (len(times) - rank + 1) / burst, DRAWS) * len(times)
    drawn: Array = ordered[np.minimum(places.astype(np.int64), len(times) - 1)]
    return drawn


def _burst(slow: Array) -> float:
    """How much more the share of slow answers varies from batch to batch than by independent chance; at least 1.

    The variance of a percentile grows by this factor (the method of batch means).
    """
    size = math.isqrt(len(slow))
    shares = _shares(slow, size)
    chance = float(slow.mean() * (1 - slow.mean())) / size
    return max(1.0, float(shares.var(ddof=1)) / chance) if chance else 1.0


def _shared(new: Array, live: Array, percent: int) -> float:
    """How far the sides' slow moments are the same ones, 0 to 1: the correlation of their shares of slow answers.

    From so few batches it is uncertain; two standard errors less are believed (Fisher's z).
    """
    fewer = min(len(new), len(live))
    batches = fewer // math.isqrt(fewer)
    sides = [_shares(times >= _percentile(times, percent), len(times) // batches)[:batches] for times in (new, live)]
    if not all(shares.std() for shares in sides):
        return 0.0
    measured = min(max(0.0, float(np.corrcoef(sides)[0, 1])), MAX_SHARED)
    return max(0.0, math.tanh(math.atanh(measured) - 2 / math.sqrt(batches - 3)))


def _shares(slow: Array, size: int) -> Array:
    """The share of slow answers in each batch of `size`, in the order of time."""
    shares: Array = slow[: len(slow) // size * size].reshape(-1, size).mean(axis=1)
    return shares


def _drawn_together(new: Array, live: Array, shared: float, random: np.random.Generator) -> tuple[Array, Array]:
    """The same draws, paired so that what is high for one side is high for the other as far as `shared` says."""
    if not shared:
        return new, live
    first, second = random.standard_normal((2, len(new)))
    ranks = np.array([first, shared * first + math.sqrt(1 - shared**2) * second]).argsort(axis=1).argsort(axis=1)
    return np.sort(new)[ranks[0]], np.sort(live)[ranks[1]]


def _percentile(times: Array, percent: int) -> float:
    return float(np.sort(times)[_rank(times, percent) - 1])


def _rank(times: Array, percent: int) -> int:
    """The nearest rank: a time that was really measured."""
    return max(1, math.ceil(len(times) * percent / 100))
