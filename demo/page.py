"""build/demo/report.html: the demo's report.json as one page for people, with nothing fetched from anywhere.

`python -m demo.page REPORT.json OUT.html` writes the page again.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from demo import charts

UNITS = {"_ms": "ms", "_s": "s", "_percent": "%", "_usd": "USD", "_mib": "MiB"}
PAIRED = re.compile(r"^(new|live|compared)_")  # measured of both releases at once, by the same requests
RATIO = re.compile(r"^p\d+_ratio")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# A record keeps its numbers by the alphabet; for people they come in the order in which they are asked for.
ORDER = ("rows", "requests", "failures", "rps", "p50_ms", "p95_ms", "p99_ms", "duration_s", "max_latency_ratio")
WORDS = {"rps": "requests a second", "p50": "median (p50)", "max_latency_ratio": "ratio to blue, at most"}
GATE_WORDS = {
    "build": "build, which looks at the image's platform",
    "scan": "scan, which looks for known vulnerabilities",
    "publish": "publish, which measures the model on labelled inputs",
    "golden": "golden inputs, whose right answers are known",
    "load": "load test",
    "rollout": "roll-out, which waits for healthy tasks",
    "bake": "bake, in which alarms watch it serve",
}
STAGE_WORDS = {
    "build": "Build",
    "scan": "Scan",
    "publish": "Model",
    "foundation": "Stacks",
    "alarms": "Alarms",
    "register": "Register",
    "rollout": "Roll-out",
}


def write(report: dict[str, Any], path: Path) -> None:
    """Write the page that shows this report."""
    path.write_text(render(report), encoding="utf-8")


def render(report: dict[str, Any]) -> str:
    """The page as text; whatever the report holds is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words_of: tuple[Callable[..., str], ...] = (number, seconds, minutes, short, when, sentence)
    environment.filters.update({function.__name__: function for function in words_of})
    return environment.get_template("page.html.j2").render(view(report))


def view(report: dict[str, Any]) -> dict[str, Any]:
    """What the template draws: the report itself, sorted by what a section shows, and the charts' coordinates."""
    releases, traffic = report["releases"], report["traffic"]
    return {
        "report": report,
        "traffic": traffic,
        "billing": report.get("billing") or {},
        "layouts": charts.layouts(ends_s(report)),
        "charts": charts,
        "colours": charts.colours(traffic),
        "shipped": [r for r in releases if r["kind"] == "good" and r["outcome"] == "live"],
        "refused": [r for r in releases if r["outcome"] == "refused"],
        "rolled_back": [r for r in releases if r["outcome"] == "rolled-back"],
        "bad": [release for release in releases if release["kind"] == "bad"],
        "judged": [_judged(release) for release in releases if release["gates"]],
        "reigns": charts.reigns(traffic.get("weights", ()), ends_s(report)),
        "bursts": bursts(report),
        "typical": typical(traffic.get("timeline", ())),
        "gate_words": GATE_WORDS,
        "stages": stage_columns(releases),
    }


def ends_s(report: dict[str, Any]) -> float:
    """Where the story's time axis ends: with the last step, or the last request when that was later."""
    traffic = report["traffic"]
    ends: list[float] = [step["started_s"] + step["duration_s"] for step in report["steps"]]
    ends += [traffic["started_s"] + second["second"] + 1 for second in traffic.get("timeline", ())]
    return max([*ends, 1.0])


@dataclass(frozen=True)
class Measured:
    """One number of a gate in words: green's value, and blue's and their ratio where both were measured."""

    name: str
    green: str
    blue: str = ""
    ratio: str = ""


@dataclass(frozen=True)
class Judged:
    """A gate as the page shows it."""

    name: str
    verdict: str
    reason: str
    numbers: list[Measured]

    @classmethod
    def of(cls, gate: dict[str, Any]) -> Judged:
        return cls(gate["name"], gate["verdict"], gate["reason"], side_by_side(gate["numbers"]))


def _judged(release: dict[str, Any]) -> tuple[dict[str, Any], list[Judged], bool]:
    """A release, its gates, and whether any of them measured blue too."""
    gates = [Judged.of(gate) for gate in release["gates"]]
    return release, gates, any(measured.blue for gate in gates for measured in gate.numbers)


def side_by_side(numbers: dict[str, float | int | str]) -> list[Measured]:
    """A gate's numbers; what was measured of both releases at once stands in one line, after the others."""
    found, shown = [], set()
    for name, value in sorted(numbers.items(), key=lambda item: _place(item[0])):
        if name in shown:
            continue
        base = PAIRED.sub("", name)
        names = [f"new_{base}", f"compared_{base}", f"live_{base}"]
        if PAIRED.search(name):
            green = next((numbers[of] for of in names[:2] if of in numbers), None)
            ratio, used = _ratio(base, numbers)
            found.append(
                Measured(
                    f"{words(base)}, side by side",
                    with_unit(base, green),
                    with_unit(base, numbers.get(names[2])),
                    ratio,
                )
            )
            shown |= {*names, *used}
        else:
            found.append(Measured(words(name), with_unit(name, value)))
    return found


def _place(name: str) -> tuple[int, int, str]:
    """Green's own first, then what was measured of both; ratios come last, shown unless a pair has them already."""
    base = PAIRED.sub("", name)
    group = 2 if RATIO.search(name) else int(base != name)
    return group, ORDER.index(base) if base in ORDER else len(ORDER), name


def _ratio(base: str, numbers: dict[str, float | int | str]) -> tuple[str, list[str]]:
    """How many times blue's value green's is, with the band of chance, and the numbers that say so."""
    names = [base.removesuffix("_ms") + ending for ending in ("_ratio", "_ratio_low", "_ratio_high")]
    if not all(name in numbers for name in names):
        return "", []
    value, low, high = (number(numbers[name]) for name in names)
    return f"× {value}; with noise × {low} to {high}", names


def words(name: str) -> str:
    """`probabilities_max_difference` as people write it, without the unit."""
    for ending in UNITS:
        name = name.removesuffix(ending)
    return WORDS.get(name, name.replace("_", " "))


def with_unit(name: str, value: Any) -> str:
    """The value in its unit; empty where nothing was measured."""
    if value is None:
        return ""
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
    return f"{number(value)} {unit}".strip()


def number(value: Any) -> str:
    """Three figures or so, thousands apart, very small ones as a power of ten; words stay words."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if value and abs(value) < 0.001:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}".removesuffix(".0")


def seconds(value: float | None) -> str:
    """A duration in seconds; empty where a stage was not reached."""
    return "" if value is None else f"{value:.1f} s"


def minutes(value: float) -> str:
    """A longer duration, in minutes and seconds."""
    whole, rest = divmod(round(value), 60)
    return f"{whole} min {rest} s" if whole else f"{rest} s"


def short(digest: str | None) -> str:
    """The beginning of a digest or commit: enough to tell it from others."""
    return (digest or "").removeprefix("sha256:")[:8]


def sentence(text: str) -> str:
    """Words that stand alone: with a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def when(iso: str) -> str:
    """A time of ISO 8601 for people."""
    return f"{datetime.fromisoformat(iso):%-d %B %Y, %H:%M} UTC"


@dataclass(frozen=True)
class Burst:
    """While users suffered: from when to when, and in words what happened."""

    starts_s: float
    ends_s: float
    words: str


def bursts(report: dict[str, Any]) -> list[Burst]:
    """For each release that failed in production, the time in which its answers to users failed."""
    traffic, found = report["traffic"], []
    for release in (r for r in report["releases"] if r["failed_requests"]):
        met = [second for second in traffic.get("timeline", ()) if release["id"] in second["by_release"]]
        met = [second for second in met if second["failed"]] or met
        if met:
            said = f"{release['failed_requests']:,} answers of {release['id']} failed"
            zero_s = traffic["started_s"]
            found.append(Burst(zero_s + met[0]["second"], zero_s + met[-1]["second"] + 1, said))
    return found


def typical(timeline: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each release the median over its seconds of p50 and p99, and its worst second's p99, in ms."""
    by_release: dict[str, list[dict[str, float]]] = {}
    for second in timeline:
        for release, values in second["latency_ms"].items():
            by_release.setdefault(release, []).append(values)
    return {
        release: {
            "p50": statistics.median(values["p50"] for values in all_values),
            "p99": statistics.median(values["p99"] for values in all_values),
            "worst": max(values["p99"] for values in all_values),
        }
        for release, all_values in by_release.items()
    }


def stage_columns(releases: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The pipeline's stages that some release passed, in order, with a heading for each."""
    names: dict[str, None] = dict.fromkeys(name for release in releases for name in release["durations_s"] or ())
    order = [name for name in STAGE_WORDS if name in names] + [name for name in names if name not in STAGE_WORDS]
    return {name: STAGE_WORDS.get(name, name) for name in order}


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
