"""The last page of the story, for a person; report.json has the same for programs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from demo.story import Story

COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


def write_report(story: Story, path: Path, duration_s: float, setup_s: float) -> dict[str, Any]:
    """Write report.json and return it."""
    report = {
        "ok": story.ok,
        "duration_s": round(duration_s, 1),
        "setup_s": setup_s,
        "seconds_per_aws_minute": story.rehearsal.get("seconds_per_aws_minute"),
        "steps": [dataclasses.asdict(step) for step in story.steps],
        "releases": story.releases,
        "traffic": story.traffic,
        "problems": story.problems,
        "not_rehearsed": story.rehearsal.get("not_rehearsed", []),
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def show(report: dict[str, Any], console: Console) -> None:
    """Steps, releases with their gates, traffic by release over time, and the verdict."""
    console.print()
    console.print(_steps(report["steps"]))
    if report["releases"]:
        console.print(_releases(report["releases"]))
    if report["traffic"]:
        _show_traffic(report["traffic"], console)
    for problem in report["problems"]:
        console.print(f"[bold red]✗[/bold red] {problem}", highlight=False)
    if report["ok"]:
        requests = report["traffic"]["requests"]
        words = (
            f"{requests:,} requests, none failed; {len(report['releases'])} releases in {report['duration_s']:.0f} s"
        )
        console.print(Panel(f"[bold green]✓ The story ended as told:[/bold green] {words}.\n{NEXT}", box=box.ROUNDED))
    else:
        console.print(Panel("[bold red]The story did not end as told.[/bold red]", box=box.ROUNDED))


def _steps(steps: list[dict[str, Any]]) -> Table:
    table = Table(title="Steps", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("step")
    table.add_column("command", style="cyan")
    table.add_column("exit", justify="right")
    table.add_column("seconds", justify="right")
    for step in steps:
        mark = "[green]✓[/green]" if step["ok"] else "[red]✗[/red]"
        table.add_row(mark, step["name"], step["command"], str(step["exit_code"]), f"{step['duration_s']:.1f}")
    return table


def _releases(releases: list[dict[str, Any]]) -> Table:
    table = Table(title="Releases", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("release", "outcome", "commit", "image", "model", "gates"):
        table.add_column(column)
    for release in releases:
        gates = "\n".join(f"{gate['name']}: {gate['verdict']} ({gate['reason']})" for gate in release["gates"] or [])
        table.add_row(
            release["id"],
            str(release["outcome"]),
            (release["git_sha"] or "")[:7],
            (release["image_digest"] or "").removeprefix("sha256:")[:12],
            (release["model_sha256"] or "")[:12],
            gates,
        )
    return table


def _show_traffic(traffic: dict[str, Any], console: Console) -> None:
    by_release = ", ".join(f"{release} {count:,}" for release, count in traffic["by_release"].items())
    console.print(
        f"[bold]Traffic[/bold]  {traffic['requests']:,} requests, {traffic['failed']} failed; {by_release}; "
        f"p50 {traffic['p50_ms']} ms, p95 {traffic['p95_ms']} ms, p99 {traffic['p99_ms']} ms",
        highlight=False,
    )
    colours = dict(zip(traffic["by_release"], COLOURS, strict=False))
    bar = "".join(
        f"[{colours.get(_most(second['by_release']), 'white')}]{'✗' if second['failed'] else '█'}[/]"
        for second in traffic["timeline"]
    )
    legend = "  ".join(f"[{colour}]█ {release}[/]" for release, colour in colours.items())
    console.print(f"{bar}\n{legend}   (a block is a second, in the colour of the release that answered most)\n")


def _most(by_release: dict[str, int]) -> str:
    return max(by_release, key=lambda release: by_release[release])


NEXT = """
With a model of your own:
  onnxship init --model my.onnx --data labelled.csv
  onnxship serve
  onnxship rehearse ship"""
