"""The last page of the story, for a person; report.json has the same for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from demo import page
from demo.story import Story

FRAME = 28  # of the steps' table: everything but the names and the commands
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


def write_report(story: Story, directory: Path, duration_s: float, setup_s: float) -> dict[str, Any]:
    """Write report.json and report.html, and return what they hold."""
    report = {
        "ok": story.ok,
        "duration_s": round(duration_s, 1),
        "setup_s": setup_s,
        "engine": story.engine,
        "strategy": story.strategy,
        "seconds_per_aws_minute": story.rehearsal.get("seconds_per_aws_minute"),
        "machine": {
            "cpus": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "started_at": datetime.fromtimestamp(story.commands.began, UTC).isoformat(),
        "steps": [dataclasses.asdict(step) | {"ok": step.ok} for step in story.commands.steps],
        "releases": story.releases,
        "traffic": story.traffic,
        "billing": story.billing,
        "problems": story.problems,
        "not_rehearsed": story.rehearsal.get("not_rehearsed", []),
        "recorded_only": story.rehearsal.get("recorded_only", []),
    }
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    if story.traffic:
        page.write(report, directory / "report.html")
    return report


def show(report: dict[str, Any], console: Console) -> None:
    """Steps, releases and who stopped the bad ones, traffic by release over time, and the verdict."""
    console.print()
    console.print(_steps(report["steps"], console.width))
    if report["releases"]:
        console.print(_releases(report["releases"]))
    if report["traffic"]:
        _show_traffic(report["traffic"], console)
    if report["billing"]:
        console.print(f"[bold]Billing[/bold]  {_billing(report['billing'])}\n", highlight=False)
    for problem in report["problems"]:
        console.print(f"[bold red]✗[/bold red] {problem}", highlight=False)
    if report["ok"]:
        words = (
            f"[bold green]✓ The story ended as told[/bold green] in {report['duration_s']:.0f} s: {_verdict(report)}"
        )
        console.print(Panel(f"{words}\n{NEXT}", box=box.ROUNDED))
    else:
        console.print(Panel("[bold red]The story did not end as told.[/bold red]", box=box.ROUNDED))


def _verdict(report: dict[str, Any]) -> str:
    refused = sum(release["outcome"] == "refused" for release in report["releases"])
    requests, suffered = report["traffic"]["requests"], report["traffic"]["suffered"]
    if not refused:
        return f"{requests:,} requests, none failed."
    return (
        f"{refused} bad releases refused before any user saw them, one taken back from production. "
        f"Of {requests:,} requests {suffered} suffered from that one; no other failed."
    )


def _steps(steps: list[dict[str, Any]], width: int) -> Table:
    table = Table(title="Steps", title_justify="left", box=box.SIMPLE_HEAD)
    for name, justify in (("", "left"), ("step", "left"), ("command", "left"), ("exit", "right"), ("seconds", "right")):
        table.add_column(name, justify=justify, no_wrap=True, style="cyan" if name == "command" else "")
    # What gives way is the command, so that every step stays on a line.
    room = width - max(len(step["name"]) for step in steps) - FRAME
    for step in steps:
        mark = "[green]✓[/green]" if step["ok"] else "[red]✗[/red]"
        command = step["command"] if len(step["command"]) <= room else step["command"][: room - 1] + "…"
        table.add_row(mark, step["name"], command, str(step["exit_code"]), f"{step['duration_s']:.1f}")
    return table


def _releases(releases: list[dict[str, Any]]) -> Table:
    table = Table(title="Releases", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("release", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("stopped by", no_wrap=True)
    table.add_column("requests", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("why")
    for release in releases:
        bad = release["kind"] == "bad"
        table.add_row(
            release["id"],
            f"[{'red' if bad else 'green'}]{release['outcome']}[/]",
            release["gate"],
            f"{release['production_requests']:,}",
            f"{release['failed_requests']:,}",
            release["fault"] if bad else _gates(release),
        )
    return table


def _gates(release: dict[str, Any]) -> str:
    return ", ".join(f"{gate['name']}: {gate['verdict']}" for gate in release["gates"] or [])


def _billing(billing: dict[str, Any]) -> str:
    return (
        f"a bill of {billing['data_point_usd']:g} USD on a budget of {billing['budget_usd']:g} USD put "
        f"{billing['alarm']} into {billing['state']}; its subscriber was told after {billing['delivered_after_s']} s"
    )


def _show_traffic(traffic: dict[str, Any], console: Console) -> None:
    suffered = f" and {traffic['suffered']} suffered from the one taken back" if traffic["suffered"] else ""
    by_release = ", ".join(f"{release} {count:,}" for release, count in traffic["by_release"].items())
    console.print(
        f"[bold]Traffic[/bold]  {traffic['requests']:,} requests, {traffic['failed']} failed{suffered}; {by_release}; "
        f"p50 {traffic['p50_ms']} ms, p95 {traffic['p95_ms']} ms, p99 {traffic['p99_ms']} ms",
        highlight=False,
    )
    colours = dict(zip(traffic["by_release"], COLOURS, strict=False))
    each = math.ceil(len(traffic["timeline"]) / console.width)
    blocks = [traffic["timeline"][at : at + each] for at in range(0, len(traffic["timeline"]), each)]
    bar = "".join(
        f"[{colours.get(_most(seconds), 'white')}]{'✗' if any(second['failed'] for second in seconds) else '█'}[/]"
        for seconds in blocks
    )
    legend = "  ".join(f"[{colour}]█ {release}[/]" for release, colour in colours.items())
    console.print(f"{bar}\n{legend}  ✗ some failed   (a block: {each} s, the release that answered most)\n")


def _most(seconds: list[dict[str, Any]]) -> str:
    counts = sum((Counter(second["by_release"]) for second in seconds), Counter[str]())
    return counts.most_common(1)[0][0]


NEXT = """
The page with all of it: build/demo/report.html

With a model of your own:
  onnxship init --model my.onnx --data labelled.csv
  onnxship serve
  onnxship rehearse ship"""
