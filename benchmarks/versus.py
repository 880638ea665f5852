"""Cells to rows: who is compared with whom, and what the ratio must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cells import Cell
from benchmarks.report import Row, compare, not_measured


@dataclass(frozen=True)
class Versus:
    """`ours` and `reference` are keys of cells; without a bar the row only informs."""

    reference: str
    label: str
    bar: float | None = None
    aim: float | None = None
    ours: str = "ours"


def rate(cell: Cell) -> float:
    return cell.rate_per_s


def p50(cell: Cell) -> float:
    return cell.p50_ms


def memory_gb(cell: Cell) -> float:
    return cell.pss_bytes / 1e9


def per_core(cell: Cell) -> float:
    """Answers per second of CPU time, of all the server's processes: hardly touched by what else the machine does."""
    return cell.rate_per_s / cell.server_cores


BETTER = {rate: "higher", per_core: "higher", p50: "lower", memory_gb: "lower"}


def rows_of(
    work: str,
    measure: str,
    figure: Callable[[Cell], float],
    cells: Mapping[str, Sequence[Cell]],
    absent: Mapping[str, str],
    comparisons: Sequence[Versus],
) -> list[Row]:
    """A row per comparison; one whose reference is absent says why."""
    rows = []
    for versus in comparisons:
        if versus.reference in absent:
            rows.append(
                not_measured(
                    work, measure, versus.label, absent[versus.reference], bar=versus.bar, better=BETTER[figure]
                )
            )
            continue
        mine, others = cells[versus.ours], cells[versus.reference]
        rows.append(
            compare(
                work,
                measure,
                [figure(cell) for cell in mine],
                versus.label,
                [figure(cell) for cell in others],
                better=BETTER[figure],
                bar=versus.bar,
                aim=versus.aim,
                foreign_cores=foreign_cores([*mine, *others]),
            )
        )
    return rows


def foreign_cores(cells: Sequence[Cell]) -> float:
    """The highest share of a cell that went to what is not measured, on this machine or beside it on its host."""
    return max(cell.noise_cores for cell in cells)
