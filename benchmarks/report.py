"""What was measured: rows of ours against a reference, judged; as JSON and as a markdown table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is ours / reference, the median of the rounds' own ratios; `bar` and `aim` are ratios.

    `ok` is None without a bar, and where something could not be measured: then `note` says why.
    """

    work: str
    measure: str
    ours: float | None
    reference: str
    reference_value: float | None
    ratio: float | None
    bar: float | None = None
    aim: float | None = None
    ok: bool | None = None
    better: str = "higher"
    ratios: tuple[float, ...] = ()
    foreign_cores: float = 0.0
    note: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether it has a bar or an aim; the others inform."""
        return self.ok is not None or self.bar is not None or self.aim is not None

    @property
    def reaches_aim(self) -> bool:
        return self.ratio is not None and self.aim is not None and holds(self.ratio, self.aim, self.better)


def holds(ratio: float, bar: float, better: str) -> bool:
    """Whether the ratio is at the bar or on its better side."""
    return ratio >= bar if better == "higher" else ratio <= bar


def compare(
    work: str,
    measure: str,
    ours: Sequence[float],
    reference: str,
    values: Sequence[float],
    *,
    better: str = "higher",
    bar: float | None = None,
    aim: float | None = None,
    foreign_cores: float = 0.0,
) -> Row:
    """Ours against the reference of the same rounds, pair by pair."""
    ratios = tuple(mine / other for mine, other in zip(ours, values, strict=True))
    ratio = statistics.median(ratios)
    return Row(
        work,
        measure,
        statistics.median(ours),
        reference,
        statistics.median(values),
        ratio,
        bar,
        aim,
        None if bar is None else holds(ratio, bar, better),
        better,
        ratios,
        foreign_cores,
    )


def compare_with_limit(
    work: str,
    measure: str,
    ours: Sequence[float],
    limit: float,
    *,
    aim: float | None = None,
    is_bar: bool = True,
    foreign_cores: float = 0.0,
) -> Row:
    """Ours against a fixed limit that it may not exceed; `aim` is in the measure's own unit."""
    return compare(
        work,
        measure,
        ours,
        "the limit" if is_bar else "the aim",
        [limit] * len(ours),
        better="lower",
        bar=1.0 if is_bar else None,
        aim=aim / limit if aim is not None else None,
        foreign_cores=foreign_cores,
    )


def not_measured(
    work: str, measure: str, reference: str, why: str, *, bar: float | None = None, better: str = "higher"
) -> Row:
    """A row without a figure: never a guess."""
    return Row(work, measure, None, reference, None, None, bar, better=better, note=why)


def missed(rows: Sequence[Row]) -> list[str]:
    """A sentence for each bar that was missed."""
    return [
        f"{row.work}: {row.measure} is {row.ratio:.3g} of {row.reference}, the bar is {row.bar:g}"
        if row.ratio is not None
        else f"{row.work}: {row.measure}: {row.note}"
        for row in rows
        if row.ok is False
    ]


def write_json(path: Path, machine: dict[str, object], rows: Sequence[Row]) -> None:
    """`machine` and `rows`; a row's fields are those of Row."""
    document = {"machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def number(value: float | None) -> str:
    """Three significant digits, thousands with a comma."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bound(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    return f"{'≥' if row.better == 'higher' else '≤'} {value:.3g}"


def verdict(row: Row) -> str:
    """In a word or two."""
    if row.note and row.ok is None:
        return "not measured"
    if row.ok is None:
        return "aim" if row.reaches_aim else ""
    return "**missed**" if not row.ok else "yes, and the aim" if row.reaches_aim else "yes"


def markdown(machine: dict[str, object], rows: Sequence[Row]) -> str:
    """The machine and the table, as pages carry them."""
    head = f"{machine['cpu']}, {machine['cores']} cores, ONNX Runtime {machine['onnxruntime']}, {machine['date']}"
    lines = [
        f"{head}; `make bench` measures it anew.",
        "",
        "| work | measure | ours | reference | ratio | bar | aim | ok |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        reference = f"{row.reference}: {number(row.reference_value)}" if row.ratio is not None else row.reference
        cells = [row.work, row.measure, number(row.ours), reference, number(row.ratio)]
        lines.append("| " + " | ".join([*cells, bound(row, row.bar), bound(row, row.aim), verdict(row)]) + " |")
    return "\n".join(lines) + "\n"


def write_between_markers(path: Path, text: str) -> None:
    """Put `text` between the file's two marker lines. Raises ValueError when they are not there, once each."""
    content = path.read_text()
    if content.count(START) != 1 or content.count(END) != 1:
        raise ValueError(f"{path} does not have the lines {START} and {END}, once each")
    before, _, rest = content.partition(START)
    path.write_text(f"{before}{START}\n{text}{END}{rest.partition(END)[2]}")
