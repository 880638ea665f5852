"""A result as text, as JSON and as GitHub's step summary: the same facts and tables."""

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline import report
from pipeline.results import GateResult, History, HistoryLine, LoadTested, Outcome, Scanned, Verdict

TESTED = LoadTested(Verdict.FAIL, "p99 300 ms (at most 200)", "http://lb", 100, 2, 50.0, 10.0, 20.0, 300.0, 2.0)
LISTED = History(
    "production",
    "digits",
    "v1",
    (HistoryLine("v1", Outcome.LIVE, "2026-11-21", "abc", "", "ann | bob", "ship", "fine\nreally <b>"),),
)


def test_json_has_the_results_own_names() -> None:
    """A script finds each field under its name; enums are their words."""
    found = json.loads(report.as_json(TESTED))

    assert ("fail", 300.0, 2) == (found["verdict"], found["p99_ms"], found["failures"])


def test_text_has_every_fact_and_table() -> None:
    """Names at the left, values beside them, lists as tables."""
    text = report.as_text(LISTED)

    assert "environment  production" in text
    assert "release_id" in text
    assert "ann | bob" in text


def test_text_leaves_out_what_is_empty() -> None:
    """Nothing is shown for an empty tuple or string."""
    text = report.as_text(Scanned("sha256:1", "COMPLETE", Verdict.PASS, "0 findings", {}))

    assert "blocking" not in text
    assert "counts" not in text


def test_markdown_escapes_what_would_break_the_table() -> None:
    """Bars, line ends and tags in values that somebody else wrote."""
    text = report.as_markdown(LISTED)

    assert "ann \\| bob" in text
    assert "fine<br>really &lt;b>" in text


def test_the_step_summary_is_appended_in_github_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two results, two sections."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    report.append_step_summary(TESTED)
    report.append_step_summary(LISTED)

    assert ["### onnxship: LoadTested", "### onnxship: History"] == [
        line for line in summary.read_text().splitlines() if line.startswith("###")
    ]


def test_outside_github_actions_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no file."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)

    report.append_step_summary(TESTED)

    assert [] == list(tmp_path.iterdir())


def test_numbers_of_gates_are_for_scripts() -> None:
    """JSON has a gate's numbers under names that carry their units; in a table they would bury the reason."""
    shipped = dataclasses.make_dataclass("Gated", [("gates", tuple)])(
        (GateResult("load", Verdict.PASS, "ok", {"p99_ms": 12.5}),)
    )

    text = report.as_text(shipped)

    assert 12.5 == json.loads(report.as_json(shipped))["gates"][0]["numbers"]["p99_ms"]
    assert ["name", "verdict", "reason"] == text.splitlines()[2].split()
    assert "12.5" not in text + report.as_markdown(shipped)


def test_sentences_stand_beneath_their_row_and_commands_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns: one line for what is short, the reason over the whole width, the command on a line of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    command = "onnxship ship --release v2 --allow-dirty --env production --service digits-of-a-long-name"
    reason = "no run is at it any more; last: ecs:UpdateService " + "digits-production " * 3
    line = HistoryLine("v2", Outcome.ABANDONED, "", "0123456", "", "ann@laptop", "ship", reason, command)

    table = report.as_text(History("production", "digits", "v1", (line,))).splitlines()[4:]

    assert [
        "releases",
        "release_id  outcome    git_sha  who         event",
        "v2          abandoned  0123456  ann@laptop  ship",
        "  no run is at it any more; last: ecs:UpdateService digits-production",
        "  digits-production digits-production",
        f"  goes on with: {command}",
    ] == table


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 110])
def test_ids_are_whole_at_every_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """$COLUMNS is obeyed where output is piped; ids stand on one line, whatever else has to fold or give way."""
    monkeypatch.setenv("COLUMNS", str(columns))
    ids = ("20261121-065819-rollback", "v1")
    lines = (
        HistoryLine(
            i, Outcome.LIVE, "2026-11-21T06:58:19+00:00", "0123456", "", "ann@laptop", "ship", "every gate passed " * 5
        )
        for i in ids
    )

    text = report.as_text(History("production", "digits", "v1", tuple(lines)))

    assert list(ids) == [line.split()[0] for line in text.splitlines() if line.startswith(ids)]
    assert max(len(line) for line in text.splitlines()) <= columns
