"""Comma-separated values, every figure in full."""

from __future__ import annotations

import csv
import io
from typing import Any

from gradflow.results.memory import Told
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Line, Table, Value


def to_csv(table: Table) -> str:
    """One line per row. A figure of runs takes four columns: the figure, low, high and n; a further one says which runs
    do not enter, and one its mark, where any cell has such."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    wide = {c for c in table.columns if any(isinstance(line.values[c], Interval) for line in table.lines)}
    told = {c for c in wide if any(_why(line, c) for line in table.lines)}
    marked = {c for c in table.columns if any(line.marks.get(c) for line in table.lines)}
    headers = [*table.rows]
    for column in table.columns:
        name = table.head(column).name or column
        headers += [name, f"{name} low", f"{name} high", f"{name} n"] if column in wide else [name]
        headers += [f"{name} lacking"] * (column in told) + [f"{name} mark"] * (column in marked)
    writer.writerow(map(_inert, headers))
    for line in table.lines:
        cells: list[Any] = [line.labels[row] for row in table.rows]
        for column in table.columns:
            value = line.values[column]
            if column not in wide:
                cells.append(_in_full(value))
            elif isinstance(value, Interval):
                cells += [value.value, value.low, value.high, value.count]
            else:
                cells += ["", "", "", 0]
            cells += [_why(line, column)] * (column in told) + [line.marks.get(column, "")] * (column in marked)
        writer.writerow(map(_inert, cells))
    return out.getvalue()


def _why(line: Line, column: str) -> str:
    """Which runs of a cell enter no figure."""
    value = line.values[column]
    return value.text if isinstance(value, Told) else line.lacking.get(column, "")


def _in_full(value: Value) -> float | str:
    """In one cell."""
    if isinstance(value, Interval):
        return value.value
    return "" if value is None else value.exact if isinstance(value, Told) else value


def _inert(cell: Any) -> Any:
    """A word that a spreadsheet would take for a formula, as text: an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
