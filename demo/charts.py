"""Where everything in the page's charts stands: numbers in, coordinates out; page.html.j2 draws them.

Every chart has the story's seconds on its x axis, so that what stands above each other happened together. It is laid
out for three widths, because text in a drawing that is merely scaled down cannot be read on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

CHARACTER_PX = 7.2  # of 12 px text in a wide system font
COLOURS = 6
TICKS_S = (5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
STAGE_GROUPS = {
    "TEST_TRAFFIC_SHIFT": "gates",
    "POST_TEST_TRAFFIC_SHIFT": "gates",
    "PRE_PRODUCTION_TRAFFIC_SHIFT": "bake",
    "PRODUCTION_TRAFFIC_SHIFT": "bake",
    "POST_PRODUCTION_TRAFFIC_SHIFT": "bake",
    "BAKE_TIME": "bake",
    "CLEAN_UP": "end",
}


@dataclass(frozen=True)
class Layout:
    """One width of a drawing; `gutter` is what the labels on the left take. A narrow one has them above the bars."""

    name: str
    width: int
    gutter: int
    ends_s: float
    right: int = 10

    @property
    def narrow(self) -> bool:
        return self.name == "narrow"

    @property
    def plot_width(self) -> float:
        return self.width - self.gutter - self.right

    def x(self, at_s: float) -> float:
        return round(self.gutter + self.plot_width * min(max(at_s, 0.0), self.ends_s) / self.ends_s, 1)

    def span(self, starts_s: float, ends_s: float) -> tuple[float, float]:
        """Left edge and width; what was too short to see is still half a pixel wide."""
        left = self.x(starts_s)
        return left, round(max(self.x(ends_s) - left, 0.5), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round times as minutes and seconds, at least 64 px apart."""
        most = max(1.0, self.plot_width / 64)
        every = next((step for step in TICKS_S if self.ends_s / step <= most), TICKS_S[-1])
        return [(self.x(at), f"{at // 60}:{at % 60:02d}") for at in range(0, int(self.ends_s) + 1, every)]


def layouts(ends_s: float) -> list[Layout]:
    """For a desk, a tablet or paper, and a telephone; the style sheet shows one of them."""
    return [
        Layout("wide", 1120, 176, ends_s),
        Layout("medium", 720, 158, ends_s),
        Layout("narrow", 358, 40, ends_s, right=6),
    ]


def colours(traffic: dict[str, Any]) -> dict[str, str]:
    """A class of the style sheet for each release that users reached, in order; past the palette a pattern is added."""
    reached = [release for weights in traffic.get("weights", ()) for release in weights["shares"]]
    reached += [release for second in traffic.get("timeline", ()) for release in second["by_release"]]
    order = dict.fromkeys(release for release in reached if release)
    classes = {release: f"c{i % COLOURS} again{min(i // COLOURS, 2)}" for i, release in enumerate(order)}
    return classes | {"": "nobody"}


def fitted(text: str, width_px: float) -> str:
    """The text, or as much of its beginning as fits."""
    room = max(int(width_px / CHARACTER_PX), 2)
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


@dataclass(frozen=True)
class Bar:
    """A part of a row: a stage in words, and where it stands."""

    left: float
    width: float
    group: str
    words: str


@dataclass(frozen=True)
class Row:
    """A step on the time axis; `ending` says how it ended, at the bar's side or above it."""

    y: int
    label: str
    words: str
    left: float
    width: float
    parts: list[Bar]
    ending: str
    ending_x: float
    ending_anchor: str
    kind: str


def rows(report: dict[str, Any], layout: Layout, top: int) -> list[Row]:
    """A row for each step, with the stages of the releases that it shipped."""
    height = 36 if layout.narrow else 24
    shipped: dict[int, list[dict[str, Any]]] = {}
    for release in report["releases"]:
        shipped.setdefault(_step_of(release, report["steps"]), []).append(release)
    return [
        _row(step, shipped.get(i, []), report["started_at"], layout, top + i * height)
        for i, step in enumerate(report["steps"])
    ]


def _step_of(release: dict[str, Any], steps: Sequence[dict[str, Any]]) -> int:
    """The step that shipped a release is the one that began closest to it."""
    return min(range(len(steps)), key=lambda i: abs(steps[i]["started_s"] - release["started_s"]), default=-1)


def _row(step: dict[str, Any], releases: list[dict[str, Any]], began: str, layout: Layout, y: int) -> Row:
    left, width = layout.span(step["started_s"], step["started_s"] + step["duration_s"])
    ending, kind = _ending(step, releases)
    room = layout.width - len(ending) * CHARACTER_PX - 12 if layout.narrow else layout.gutter - 14
    x, anchor = _beside(left, left + width, len(ending) * CHARACTER_PX, layout)
    parts = [bar for release in releases for bar in _stages(release, began, layout)]
    words = f"{step['name']}: {step['command'] or 'no command'}; {step['duration_s']} s, exit code {step['exit_code']}"
    return Row(y, fitted(step["name"], room), words, left, width, parts, ending, x, anchor, kind)


def _beside(left: float, right: float, words_px: float, layout: Layout) -> tuple[float, str]:
    """Where words on a bar stand: right of it, else left of it, else within; above it where the drawing is narrow."""
    if layout.narrow:
        return float(layout.width - layout.right), "end"
    if right + 8 + words_px < layout.width:
        return right + 7, "start"
    return (left - 7, "end") if left - 8 - words_px > layout.gutter else (right - 7, "end")


def _ending(step: dict[str, Any], releases: list[dict[str, Any]]) -> tuple[str, str]:
    if not step["ok"]:
        return f"exit {step['exit_code']}, expected {step['expected_exit_code']}", "wrong"
    outcome = next((r["outcome"] for r in releases if r["outcome"] in ("refused", "rolled-back")), "")
    if outcome:
        return f"{outcome.replace('-', ' ')} · exit {step['exit_code']}", outcome
    return f"{step['duration_s']:.1f} s · exit {step['exit_code']}", "done"


def _stages(release: dict[str, Any], began: str, layout: Layout) -> Iterable[Bar]:
    """First the pipeline's own stages one after the other, then the deployment's as ECS was seen to pass them."""
    at_s = release["started_s"]
    for stage, duration_s in (release["durations_s"] or {}).items():
        if stage != "rollout" or not release["stages"]:
            group = "start" if stage == "rollout" else "prepare"
            yield Bar(*layout.span(at_s, at_s + duration_s), group, f"{stage}, {duration_s:.1f} s")
            at_s += duration_s
    for stage in release["stages"] or ():
        at_s = (datetime.fromisoformat(stage["started_at"]) - datetime.fromisoformat(began)).total_seconds()
        group = STAGE_GROUPS.get(stage["stage"], "start")
        words = f"{stage['stage']}, {stage['duration_s']:.1f} s"
        yield Bar(*layout.span(at_s, at_s + stage["duration_s"]), group, words)


@dataclass(frozen=True)
class Area:
    """A rectangle that belongs to a release."""

    release: str
    left: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class Reign:
    """While a release had the greatest share of production."""

    release: str
    starts_s: float
    ends_s: float


def _intervals(weights: Sequence[dict[str, Any]], ends_s: float) -> list[tuple[dict[str, Any], float]]:
    """Each change of the weights with the time until which it held."""
    return [(change, after["at_s"]) for change, after in pairwise([*weights, {"at_s": ends_s}])]


def reigns(weights: Sequence[dict[str, Any]], ends_s: float) -> list[Reign]:
    """Which release led production, one after the other."""
    found: list[Reign] = []
    for change, until_s in _intervals(weights, ends_s):
        if not any(change["shares"].values()):
            continue
        leader = max(change["shares"], key=lambda release: change["shares"][release])
        if found and found[-1].release == leader:
            found[-1] = Reign(leader, found[-1].starts_s, until_s)
        else:
            found.append(Reign(leader, change["at_s"], until_s))
    return found


def band(weights: Sequence[dict[str, Any]], layout: Layout, top: float, height: float) -> list[Area]:
    """Production's weights, stacked upon those that users met before: the whole height is 100 %."""
    met = list(dict.fromkeys(release for change in weights for release in change["shares"]))
    areas = []
    for change, until_s in _intervals(weights, layout.ends_s):
        y, total = top + height, sum(change["shares"].values()) or 1
        for release in sorted(change["shares"], key=met.index):
            part = height * change["shares"][release] / total
            y -= part
            areas.append(Area(release, *layout.span(change["at_s"], until_s), y, part))
    return [area for area in areas if area.height > 0]


@dataclass(frozen=True)
class Axis:
    """A y axis from `low` at the bottom to `high`, linear or logarithmic."""

    top: int
    height: int
    low: float
    high: float
    logarithmic: bool
    values: tuple[float, ...]

    def y(self, value: float) -> float:
        scale = math.log10 if self.logarithmic else float
        share = (scale(max(value, self.low)) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.top + self.height * (1 - share), 1)

    def ticks(self) -> list[tuple[float, str]]:
        return [(self.y(value), f"{value:,g}") for value in self.values]


def latency_axis(timeline: Sequence[dict[str, Any]], top: int, height: int) -> Axis:
    """Milliseconds on a logarithmic axis, since a tail is often a hundred times the median."""
    seen = [ms for second in timeline for values in second["latency_ms"].values() for ms in values.values() if ms > 0]
    decades = math.floor(math.log10(min(seen, default=1))), math.ceil(math.log10(max(seen, default=1)))
    low, high = decades[0], max(decades[1], decades[0] + 1)
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    values = (step * 10.0**decade for decade in range(low, high) for step in steps)
    return Axis(top, height, 10.0**low, 10.0**high, True, (*values, 10.0**high))


def lines(timeline: Sequence[dict[str, Any]], zero_s: float, metric: str, layout: Layout, axis: Axis) -> dict[str, str]:
    """A path for each release; it is lifted where a second has no answer of that release."""
    paths: dict[str, str] = {}
    last: dict[str, int] = {}
    for second in timeline:
        x = layout.x(zero_s + second["second"] + 0.5)
        for release, values in second["latency_ms"].items():
            goes_on = last.get(release) == second["second"] - 1
            # A line of no length with round ends is a dot, so a second that stands alone is seen too.
            paths[release] = paths.get(release, "") + f"{'L' if goes_on else 'M'}{x} {axis.y(values[metric])}h0"
            last[release] = second["second"]
    return paths


def requests_axis(timeline: Sequence[dict[str, Any]], top: int, height: int) -> Axis:
    """Requests a second from 0, with a tick at each quarter or half of a round number."""
    most = max((sum(second["by_release"].values()) for second in timeline), default=1) or 1
    unit = 10.0 ** math.floor(math.log10(most))
    high = next(unit * step for step in (1, 2, 4, 5, 6, 8, 10) if unit * step >= most)
    return Axis(top, height, 0.0, high, False, (0.0, high / 2, high))


def stacked(timeline: Sequence[dict[str, Any]], zero_s: float, layout: Layout, axis: Axis) -> dict[str, str]:
    """A path for each release: its answers in each second, upon those of the releases that users met before it."""
    met = list(dict.fromkeys(release for second in timeline for release in second["by_release"]))
    paths: dict[str, str] = {}
    for second in timeline:
        left, width = layout.span(zero_s + second["second"], zero_s + second["second"] + 1)
        below = 0
        for release in sorted(second["by_release"], key=met.index):
            count = second["by_release"][release]
            bottom, top = axis.y(below), axis.y(below + count)
            paths[release] = paths.get(release, "") + f"M{left} {bottom}V{top}h{width}V{bottom}z"
            below += count
    return paths
