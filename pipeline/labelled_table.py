"""A table of labelled rows as people have them, read from CSV; what is wrong is named by line and column."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, UsageError

LABEL_NAMES = ("expected", "label", "labels", "target", "y", "class")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """Features `(rows, columns) float64` in the file's order without the label column, and one label a row."""

    features: Array
    labels: Array
    label_name: str

    @property
    def described(self) -> str:
        """How the features came to be, for an error about their shape."""
        return f" ({self.features.shape[1]} columns beside the label column `{self.label_name}`)"


def read_table(path: Path) -> LabelledTable:
    """Read a CSV file with a header line; blank lines are skipped.

    The label is the column named label, target, y, class or expected, else the last one. Raises ConfigError for
    what is no table of finite numbers and labels, UsageError when there is no such file.
    """
    lines = _lines(path)
    if not lines:
        raise ConfigError(f"{path} is empty.", "give it a header line and one labelled row a line")
    (_, header), rows = lines[0], lines[1:]
    _refuse_other_separators(path, header)
    if all(_is_number(cell) for cell in header):
        raise ConfigError(
            f"{path}: the first line holds only numbers ({', '.join(header[:4])} ...), so the header is missing.",
            "put a line with the columns' names first",
        )
    if not rows:
        raise ConfigError(f"{path} has a header but no rows.", "add labelled rows")
    named = (index for index, name in enumerate(header) if name.strip().lower() in LABEL_NAMES)
    at = next(named, len(header) - 1)
    features = [_numbers(path, number, header, row, at) for number, row in rows]
    return LabelledTable(np.array(features), _labels(path, rows, at), header[at])


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Every line that is not blank, with its number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise UsageError(f"There is no {path}.", "name an .npz or .csv file that exists with --data") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}", "save it as comma-separated UTF-8 text") from error


def _refuse_other_separators(path: Path, header: list[str]) -> None:
    found = next((separator for separator in (";", "\t", "|") if separator in header[0]), None)
    if len(header) == 1 and found:
        raise ConfigError(f"{path} separates its columns with {found!r}.", "save it with commas")
    if len(header) == 1:
        raise ConfigError(f"{path} has one column, `{header[0]}`.", "give it the features and, last, the label")


def _numbers(path: Path, number: int, header: list[str], row: list[str], label_at: int) -> list[float]:
    if len(row) != len(header):
        raise ConfigError(
            f"{path}, line {number}: {len(row)} cells under a header of {len(header)}.", "correct or remove that line"
        )
    return [_number(path, number, header[i], cell) for i, cell in enumerate(row) if i != label_at]


def _number(path: Path, line: int, column: str, cell: str) -> float:
    if not cell.strip():
        raise ConfigError(f"{path}, line {line}: column `{column}` is empty.", "fill it in, or remove that line")
    if not _is_number(cell) or not math.isfinite(float(cell)):
        raise ConfigError(
            f"{path}, line {line}: column `{column}` holds `{cell}`, not a finite number.",
            "encode features as the model takes them, or remove that line",
        )
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _labels(path: Path, rows: list[tuple[int, list[str]]], at: int) -> Array:
    labels = [row[at].strip() for _, row in rows]
    if "" in labels:
        line = rows[labels.index("")][0]
        raise ConfigError(f"{path}, line {line}: the label is empty.", "label that row, or remove it")
    for (line, _), label in zip(rows, labels, strict=True):
        if _is_number(label) and not math.isfinite(float(label)):
            raise ConfigError(f"{path}, line {line}: the label is `{label}`.", "label that row, or remove it")
    if all(label.lstrip("+-").isdigit() for label in labels):
        return np.array([int(label) for label in labels])
    return np.array([float(label) for label in labels] if all(map(_is_number, labels)) else labels)
