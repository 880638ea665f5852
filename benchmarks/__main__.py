"""`python -m benchmarks`: measure, show, and write build/bench/report.json. Exit status 1 when a bar is missed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from rich.console import Console

from benchmarks import housekeeping, machine, report, table, wrk
from benchmarks.cells import Patience
from benchmarks.contenders import ROOT
from benchmarks.errors import CannotMeasure, OursDoesNotRun
from benchmarks.field import Bench
from benchmarks.report import Row
from benchmarks.rows import download, mlp, overload, resnet, start, transformer

DIRECTORY = ROOT / "build" / "bench"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "mlp-32": mlp.measure_32,
    "mlp-1": mlp.measure_1,
    "resnet-binary": resnet.measure_binary,
    "resnet-json": resnet.measure_json,
    "resnet-1": resnet.measure_1,
    "transformer": transformer.measure,
    "overload": overload.measure,
    "download": download.measure,
    "start": start.measure,
    "memory": resnet.measure_memory,
}
MISSED, USAGE, INTERRUPTED = 1, 2, 130


def main() -> int:
    """Measure what was asked for; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the servers too
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    try:
        wrk.find()
        with housekeeping.only_one(DIRECTORY):
            return _measure(arguments, console)
    except CannotMeasure as error:
        console.print(f"Error: {error}", markup=False)
        return USAGE
    except KeyboardInterrupt:
        console.print("interrupted; every server was ended", markup=False)
        return INTERRUPTED


def _measure(arguments: argparse.Namespace, console: Console) -> int:
    said = machine.describe()
    bench = _bench(arguments, console)
    rows: list[Row] = []
    for name, measure in ROWS.items():
        if any(name.startswith(wanted) for wanted in arguments.only or [name]):
            console.print(f"{name}: {(measure.__doc__ or '').splitlines()[0]}", markup=False)
            rows += _rows_of(name, measure, bench)
            report.write_json(DIRECTORY / "report.json", said, rows)
    table.show(console, said, rows)
    table.draw(DIRECTORY / "report.svg", said, rows)
    if arguments.readme:
        report.write_between_markers(ROOT / "README.md", report.markdown(said, [row for row in rows if row.is_judged]))
        report.write_between_markers(PAGE, report.markdown(said, rows))
    return _say_what_was_missed(console, rows)


def _bench(arguments: argparse.Namespace, console: Console) -> Bench:
    def say(text: str) -> None:
        console.print(text, markup=False)

    return Bench(DIRECTORY, arguments.rounds, arguments.seconds, say, Patience(arguments.patience, say))


def _rows_of(name: str, measure: Callable[[Bench], list[Row]], bench: Bench) -> list[Row]:
    """The row's figures, or one missed row where they could not be had: the other rows go on."""
    try:
        return measure(bench)
    except (OursDoesNotRun, CannotMeasure) as error:
        bench.say(f"    {error}")
        return [Row(name, "all", None, "", None, None, ok=False, note=str(error).replace("\n", " "))]


def _say_what_was_missed(console: Console, rows: list[Row]) -> int:
    missed = report.missed(rows)
    for sentence in missed:
        console.print(f"missed: {sentence}", markup=False)
    judged = sum(row.ok is not None for row in rows)
    open_bars = sum(row.ok is None and row.bar is not None for row in rows)
    held = f"{judged - len(missed)} of {judged} bars held" + (f", {open_bars} not measured" if open_bars else "")
    console.print(f"{held}; {DIRECTORY / 'report.json'}, report.svg", markup=False)
    return MISSED if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW", help=f"rows whose names begin so: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each contender has its turn (default 5)")
    parser.add_argument("--seconds", type=_positive, help="the length of a turn (default: as each row needs)")
    parser.add_argument(
        "--patience",
        type=float,
        default=300,
        metavar="S",
        help="seconds in all to wait for a quiet machine and to measure noisy turns again (default 300)",
    )
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md and the docs")
    arguments = parser.parse_args()
    unknown = [wanted for wanted in arguments.only or [] if not any(name.startswith(wanted) for name in ROWS)]
    if unknown:
        parser.error(f"no row begins with {', '.join(unknown)}; the rows are {', '.join(ROWS)}")
    if arguments.readme and arguments.only:
        parser.error("--readme writes whole tables: leave --only out")
    return arguments


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
