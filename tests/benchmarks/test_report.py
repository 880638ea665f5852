"""Rows are judged by ratios within a run, and what was not measured is said."""

import json
from pathlib import Path

import pytest

from benchmarks import report, table

MACHINE = {"cpu": "a CPU", "cores": 2, "onnxruntime": "1.31.1", "date": "2026-11-26"}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """A machine that gets twice as slow in one round changes no ratio."""
    row = report.compare("work", "answers/s", [100, 50, 104], "raw", [200, 100, 200])

    assert (0.5, (0.5, 0.5, 0.52)) == (row.ratio, row.ratios)


@pytest.mark.parametrize(
    ("better", "bar", "ok"),
    [("higher", 0.5, True), ("higher", 0.51, False), ("lower", 0.5, True), ("lower", 0.49, False)],
)
def test_a_bar_is_held_at_the_bar_and_on_its_better_side(better: str, bar: float, ok: bool) -> None:
    """Rates must not be below the bar, times not above it."""
    assert ok is report.compare("work", "measure", [1.0], "raw", [2.0], better=better, bar=bar).ok


def test_a_row_without_a_bar_is_not_judged() -> None:
    """It informs, and cannot be missed."""
    row = report.compare("work", "answers/s", [1.0], "LitServe", [2.0])

    assert (None, []) == (row.ok, report.missed([row]))


def test_a_limit_and_its_aim_are_given_in_the_measures_own_unit() -> None:
    """Start within 2 s, aim 1.5 s: 1.4 s holds both."""
    row = report.compare_with_limit("work", "s", [1.4], 2.0, aim=1.5)

    assert (0.7, 1.0, 0.75, True, True) == (row.ratio, row.bar, row.aim, row.ok, row.reaches_aim)


def test_a_missed_bar_is_named_with_its_numbers() -> None:
    """The last lines of `make bench` say what to work on."""
    row = report.compare("MLP", "answers/s", [900.0], "naive FastAPI", [100.0], bar=10)

    assert ["MLP: answers/s is 9 of naive FastAPI, the bar is 10"] == report.missed([row])


def test_a_peer_that_does_not_run_has_no_figure_and_is_no_miss() -> None:
    """It says why instead."""
    row = report.not_measured("MLP", "answers/s", "Triton", "ended with exit code 1", bar=1.5)

    assert (None, None, None, []) == (row.reference_value, row.ratio, row.ok, report.missed([row]))
    assert "| MLP | answers/s | – | Triton | – | ≥ 1.5 |  | not measured |" in report.markdown(MACHINE, [row])


def test_the_report_has_the_members_that_readers_rely_on(tmp_path: Path) -> None:
    """`machine`, and per row work, measure, ours, reference, reference_value, ratio, bar, aim, ok."""
    row = report.compare("MLP", "answers/s", [1000.0], "naive FastAPI", [100.0], bar=10, aim=25)

    report.write_json(tmp_path / "report.json", MACHINE, [row])

    document = json.loads((tmp_path / "report.json").read_text())
    members = ("work", "measure", "ours", "reference", "reference_value", "ratio", "bar", "aim", "ok")
    assert MACHINE == document["machine"]
    assert ["MLP", "answers/s", 1000, "naive FastAPI", 100, 10, 10, 25, True] == [
        document["rows"][0][m] for m in members
    ]


def test_the_markdown_table_says_what_was_measured_where() -> None:
    """A row a line, under the machine."""
    row = report.compare("MLP", "answers/s", [31525.0], "naive FastAPI", [1031.0], bar=10, aim=25)

    text = report.markdown(MACHINE, [row])

    assert text.startswith("a CPU, 2 cores, ONNX Runtime 1.31.1, 2026-11-26;")
    assert "| MLP | answers/s | 31,525 | naive FastAPI: 1,031 | 30.6 | ≥ 10 | ≥ 25 | yes, and the aim |" in text


def test_only_what_stands_between_the_markers_is_written_anew(tmp_path: Path) -> None:
    """The rest of the README stays, also when it is written twice."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n\n{report.START}\nold\n{report.END}\n\nafter\n")

    report.write_between_markers(page, "new\n")
    report.write_between_markers(page, "newer\n")

    assert f"before\n\n{report.START}\nnewer\n{report.END}\n\nafter\n" == page.read_text()


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """The error names the two lines that are missing."""
    page = tmp_path / "README.md"
    page.write_text("text\n")

    with pytest.raises(ValueError, match="bench:start"):
        report.write_between_markers(page, "new\n")

    assert "text\n" == page.read_text()


def test_the_picture_shows_each_judged_row(tmp_path: Path) -> None:
    """Rows without a bar or an aim, and those not measured, are left out."""
    rows = [
        report.compare("MLP", "answers/s", [31525.0], "naive FastAPI", [1031.0], bar=10, aim=25),
        report.compare("MLP", "answers/s", [1.0], "LitServe", [2.0]),
        report.not_measured("MLP", "answers/s", "Triton", "does not start", bar=1.5),
        report.compare_with_limit("start", "s", [2.5], 2.0),
    ]

    table.draw(tmp_path / "report.svg", MACHINE, rows)

    drawn = (tmp_path / "report.svg").read_text()
    assert [True, False, False, True] == [
        f"<!-- {row.work}: {row.measure} / {row.reference} -->" in drawn for row in rows
    ]
