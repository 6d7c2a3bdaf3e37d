"""What a table looks like in any format: lines of a header whose cells span columns, rows of cells, notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from gradflow.results.formats.words import clean, label, text
from gradflow.results.statistics.interval import Interval
from gradflow.results.table import Line, Table, Value

DAGGER = "†"


@dataclass(frozen=True)
class Above:
    """A cell of the header, over `span` columns."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class Cell:
    """A cell of the body.

    Attributes:
        text: the value as a person reads it, without marks.
        value: what was read.
        number: whether it stands to the right, among numbers.
        mark: 'best', 'tied' or ''.
        lacking: '1d 2f', runs that do not enter; raised.
        hint: for somebody who points at it.
    """

    text: str
    value: Value
    number: bool
    mark: str = ""
    lacking: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """`begins` a group of rows that share their first label."""

    labels: list[str]
    cells: list[Cell]
    begins: bool


@dataclass(frozen=True)
class Document:
    """Ready to be written.

    Attributes:
        header: its lines from the top, each over all columns that hold values.
        labels: headers of the columns that hold labels.
        numbers: of every column with values, whether it holds numbers.
    """

    title: str
    labels: list[str]
    header: list[list[Above]]
    numbers: list[bool]
    rows: list[Row]
    notes: list[str]


def document(table: Table) -> Document:
    heads = [table.head(column) for column in table.columns]
    depth = max(len(head.above) for head in heads)
    stacks = [[*(clean(word) for word in head.above), clean(head.text)] for head in heads]
    stacks = [[""] * (depth + 1 - len(stack)) + stack for stack in stacks]
    return Document(
        clean(table.title),
        [label(row) for row in table.rows],
        [list(_line(stacks, level)) for level in range(depth + 1)],
        [not head.words for head in heads],
        list(_rows(table)),
        [clean(note) for note in table.notes],
    )


def _line(stacks: list[list[str]], level: int) -> Iterator[Above]:
    """Neighbours that share this word and all above it share a cell, but on the lowest line."""
    if level == len(stacks[0]) - 1:
        yield from (Above(stack[level]) for stack in stacks)
        return
    for words, same in groupby(stacks, key=lambda stack: stack[: level + 1]):
        yield Above(words[-1], len(list(same)))


def _rows(table: Table) -> Iterator[Row]:
    before: Line | None = None
    for line in table.lines:
        first = table.rows[0] if len(table.rows) > 1 else None
        begins = before is not None and first is not None and before.labels[first] != line.labels[first]
        yield Row(
            [label(line.labels[row]) for row in table.rows], [_cell(table, line, c) for c in table.columns], begins
        )
        before = line


def _cell(table: Table, line: Line, column: str) -> Cell:
    value = line.values[column]
    number = not table.head(column).words
    return Cell(text(value), value, number, line.marks.get(column, ""), line.lacking.get(column, ""), _hint(value))


def _hint(value: Value) -> str:
    if not isinstance(value, Interval):
        return ""
    ends = "" if value.low is None else f", 95 % interval {value.low:.4g} to {value.high:.4g}"
    return f"n = {value.count}{ends}"
