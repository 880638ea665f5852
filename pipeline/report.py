"""A result as text for people, as JSON for scripts, and as Markdown for GitHub's step summary.

Text and Markdown are made from the same two parts: facts (name and value) and tables (tuples of dataclasses).
A field whose metadata is `results.JSON_ONLY` is no column of a table: it is for scripts. One with `results.BENEATH`
holds sentences: in a terminal they stand beneath their row, over the whole width.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.results import Verdict

WIDTH = 110
MAX_WIDTH = 160
COLUMN_WIDTH = 10  # the least that a column is squeezed to, unless its cells are shorter
GAP = 2
SUMMARY_LIMIT_BYTES = 1024 * 1024  # https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}
MARKDOWN = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True).from_string(  # noqa: S701 - not HTML
    """### onnxship: {{ title }}

| | |
|---|---|
{% for name, value in facts %}
| {{ name }} | {{ value }} |
{% endfor %}
{% for name, columns, rows in tables %}

**{{ name }}**

| {{ columns | join(" | ") }} |
|{{ "---|" * columns | length }}
{% for row in rows %}
| {{ row | join(" | ") }} |
{% endfor %}
{% endfor %}
"""
)


def as_json(result: Any) -> str:
    """One JSON object with the result's own field names; keys do not change between versions without a note."""
    return json.dumps(dataclasses.asdict(result), indent=2, default=str)


def as_text(result: Any) -> str:
    """The result for people: facts line by line, then a table for each list."""
    stream = io.StringIO()
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(file=stream, width=_width(), force_terminal=colour, no_color=not colour, highlight=False)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(result):
        facts.add_row(f"[bold]{name}[/bold]", _coloured(value))
    console.print(facts)
    for table in _tables(result):
        console.print()
        if table.beneath:
            _print_list(console, table)
        else:
            console.print(_table(table, console.width))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


@dataclasses.dataclass(frozen=True, slots=True)
class _Listed:
    """A tuple of dataclasses as cells; `beneath` says which columns (by number) hold sentences."""

    name: str
    columns: list[str]
    rows: list[list[str]]
    beneath: tuple[int, ...]

    @property
    def widths(self) -> list[int]:
        """The longest line of each column."""
        cells = zip(self.columns, *self.rows, strict=True)
        return [max(len(line) for cell in column for line in [*cell.splitlines(), ""]) for column in cells]


def _print_list(console: Console, table: _Listed) -> None:
    """Each row on one line, as many columns as there is room for, the first ones first; its sentences beneath it."""
    widths = table.widths
    across = [n for n in range(len(widths)) if n not in table.beneath]
    shown = [
        n for at, n in enumerate(across) if at == 0 or sum(widths[m] + GAP for m in across[: at + 1]) <= console.width
    ]
    console.print(Text(table.name, style="italic"))
    console.print(_line([table.columns[n].ljust(widths[n]) for n in shown], "bold"))
    for row in table.rows:
        console.print(_line([row[n].ljust(widths[n]) for n in shown]), soft_wrap=True)
        for n in table.beneath:
            if row[n] and n == table.beneath[0]:
                console.print(Padding(Text(row[n], overflow="fold"), (0, 0, 0, GAP)))
            elif row[n]:  # a command: the terminal may wrap it, and it can be copied whole
                console.print(
                    f"{' ' * GAP}{table.columns[n].replace('_', ' ')}: {row[n]}", soft_wrap=True, markup=False
                )


def _line(cells: list[str], style: str = "") -> Text:
    return Text((" " * GAP).join(cells), style=style)


def _table(listed: _Listed, width: int) -> Table:
    """The first column whole, it names the row; the others fold, and the last ones give way where there is no room."""
    longest = listed.widths
    least = [longest[0], *(min(length, COLUMN_WIDTH) for length in longest[1:])]
    shown = [n for n in range(len(longest)) if n == 0 or sum(least[: n + 1]) + GAP * (n + 1) <= width]
    table = Table(title=listed.name, title_justify="left", box=None, header_style="bold", padding=(0, GAP, 0, 0))
    for n in shown:
        table.add_column(listed.columns[n], overflow="fold", min_width=min(least[n], width - GAP))
    for row in listed.rows:
        table.add_row(*(_coloured(row[n]) for n in shown))
    return table


def as_markdown(result: Any) -> str:
    """The same facts and tables as a GitHub step summary; `|` and line ends in values are escaped."""
    return MARKDOWN.render(
        title=type(result).__name__,
        facts=[(name, _escaped(value)) for name, value in _facts(result)],
        tables=[
            (table.name, table.columns, [[_escaped(cell) for cell in row] for row in table.rows])
            for table in _tables(result)
        ],
    )


def append_step_summary(result: Any) -> None:
    """Add the result to $GITHUB_STEP_SUMMARY when the command runs in GitHub Actions."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    text = as_markdown(result) + "\n"
    if Path(path).exists() and Path(path).stat().st_size + len(text.encode()) > SUMMARY_LIMIT_BYTES:
        return
    with Path(path).open("a", encoding="utf-8") as summary:
        summary.write(text)


def _facts(result: Any) -> Iterator[tuple[str, str]]:
    for item in dataclasses.fields(result):
        value = getattr(result, item.name)
        if _is_table(value) or value in ((), {}, None, ""):
            continue
        if dataclasses.is_dataclass(value):
            yield from ((f"{item.name}.{name}", text) for name, text in _facts(value))
        else:
            yield item.name, _plain(value)


def _tables(result: Any) -> Iterator[_Listed]:
    for item in dataclasses.fields(result):
        value = getattr(result, item.name)
        if not _is_table(value):
            continue
        fields = [column for column in dataclasses.fields(value[0]) if not column.metadata.get("json_only")]
        texts = {column.name: [_plain(getattr(row, column.name)) for row in value] for column in fields}
        shown = [column for column in fields if column is fields[0] or any(texts[column.name])]
        rows = [list(row) for row in zip(*(texts[column.name] for column in shown), strict=True)]
        beneath = tuple(n for n, column in enumerate(shown) if column.metadata.get("beneath"))
        yield _Listed(item.name, [column.name for column in shown], rows, beneath)


def _is_table(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and dataclasses.is_dataclass(value[0])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        texts = [_plain(item) for item in value]
        return ("\n" if any(" " in text for text in texts) else ", ").join(texts)  # sentences, or words
    if dataclasses.is_dataclass(value):
        return ", ".join(f"{name} {text}" for name, text in _facts(value))
    return "" if value is None else str(value)


def _coloured(text: str) -> Any:
    colour = COLOURS.get(text)  # type: ignore[call-overload]
    return Text(text, style=colour or "")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def _width() -> int:
    """Of the terminal; $COLUMNS goes before it, also where the output is piped."""
    return min(shutil.get_terminal_size((WIDTH, 0)).columns, MAX_WIDTH)
