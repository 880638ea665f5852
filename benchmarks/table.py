"""The table on the terminal, and the picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.report import Row, bound, number, verdict

COLOURS = {"**missed**": "red", "not measured": "yellow"}
GOOD, BAD, PLAIN = "#2a7f62", "#c0392b", "#7f8c8d"


def show(console: Console, machine: dict[str, object], rows: Sequence[Row]) -> None:
    """All rows, and the machine under them."""
    table = Table(title="onnxship against raw ONNX Runtime and its peers", title_justify="left")
    for name in ("work", "measure", "ours", "reference", "value", "ratio", "bar", "aim", "ok", "foreign"):
        table.add_column(name, justify="right" if name in ("ours", "value", "ratio", "foreign") else "left")
    for before, row in zip([None, *rows], rows, strict=False):
        word = verdict(row)
        colour = COLOURS.get(word, "green" if row.ok else "")
        table.add_row(
            row.work if before is None or before.work != row.work else "",
            row.measure if before is None or (before.work, before.measure) != (row.work, row.measure) else "",
            number(row.ours),
            row.reference,
            number(row.reference_value),
            _ratio(row),
            bound(row, row.bar),
            bound(row, row.aim),
            f"[{colour}]{word.strip('*')}[/]" if colour else word,
            f"{row.foreign_cores:.2f}" if row.ratios else "",
        )
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), markup=False)
    for row in rows:
        if row.note and row.ok is None:
            console.print(f"not measured: {row.work}, {row.measure}, {row.reference}: {row.note}", markup=False)


def _ratio(row: Row) -> str:
    """The median and, of several rounds, the extremes."""
    if len(row.ratios) < 2:
        return number(row.ratio)
    return f"{number(row.ratio)} ({number(min(row.ratios))}–{number(max(row.ratios))})"


def draw(path: Path, machine: dict[str, object], rows: Sequence[Row]) -> None:
    """Every row with a bar or an aim as a bar of how far it is on the good side of it, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    judged = [row for row in rows if row.ratio and (row.bar or row.aim)][::-1]
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.32 * max(1, len(judged))), layout="constrained")
    margins = [_margin(row) for row in judged]
    colours = [PLAIN if row.ok is None else GOOD if row.ok else BAD for row in judged]
    axes.barh(range(len(judged)), [margin - 1 for margin in margins], left=1, color=colours, height=0.6)
    axes.set_yticks(range(len(judged)), [f"{row.work}: {row.measure} / {row.reference}" for row in judged], fontsize=8)
    for place, (row, margin) in enumerate(zip(judged, margins, strict=True)):
        side = {"ha": "left", "x": 4} if margin >= 1 else {"ha": "right", "x": -4}
        text = f"{number(row.ratio)} ({bound(row, row.bar or row.aim)})"
        axes.annotate(
            text, (margin, place), (side["x"], 0), textcoords="offset points", ha=side["ha"], va="center", fontsize=8
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("times better than the bar (grey: than the aim); 1 is the bar itself")
    axes.set_title(f"onnxship's model service: {machine['cpu']}, {machine['cores']} cores", fontsize=10)
    for side_name in ("top", "right"):
        axes.spines[side_name].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)


def _margin(row: Row) -> float:
    """How many times better than the bar, or the aim where there is no bar."""
    bar = row.bar or row.aim
    assert row.ratio
    assert bar
    return row.ratio / bar if row.better == "higher" else bar / row.ratio
