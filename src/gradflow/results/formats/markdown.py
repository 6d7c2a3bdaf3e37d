"""GitHub's pipe table, notes below."""

from __future__ import annotations

import re

from gradflow.results.formats.document import DAGGER, Cell, document
from gradflow.results.table import Table

_RAISED = str.maketrans("0123456789dfmn", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵈᶠᵐⁿ")


def to_markdown(table: Table) -> str:
    """The lines of a header are joined: a pipe table has one."""
    made = document(table)
    above = [[cell.text for cell in line for _ in range(cell.span)] for line in made.header]
    heads = [" · ".join(filter(None, words)) for words in zip(*above, strict=True)]
    lines = [_row([*map(escape, made.labels), *map(escape, heads)])]
    rules = ["---"] * len(made.labels) + ["---:" if number else "---" for number in made.numbers]
    lines.append(_row(rules))
    lines += [_row([*map(escape, row.labels), *map(_value, row.cells)]) for row in made.rows]
    return "\n".join([*lines, "", *(f"- {escape(note)}" for note in made.notes)]) + "\n"


def raised(lacking: str) -> str:
    """'1d 2f' as '¹ᵈ²ᶠ'."""
    return lacking.replace(" ", "").translate(_RAISED)


def escape(words: str) -> str:
    """Plain text that means itself: no HTML, no link, no emphasis, no formula, no further column."""
    words = re.sub(r"([\\`*\[\]<>|~$&])", r"\\\1", words)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", words)


def _value(cell: Cell) -> str:
    words = escape(cell.text)
    words = f"**{words}**" if cell.mark == "best" else words
    return words + raised(cell.lacking) + (f" {DAGGER}" if cell.mark == "tied" else "")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
