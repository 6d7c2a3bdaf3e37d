"""A terminal's table."""

from __future__ import annotations

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.results.formats.document import DAGGER, Cell, document
from gradflow.results.formats.markdown import raised
from gradflow.results.formats.words import clean
from gradflow.results.memory import Told
from gradflow.results.table import Table

COLOURS = {"healthy": "green", "stagnant": "yellow", "vanishing": "blue", "exploding": "magenta", "diverged": "red"}
LONG = 9  # letters of a header that stands on one line
COLOURS |= {"gradient-free": "cyan", "dead": "magenta", "saturated": "yellow", "rank_collapse": "yellow"}


def to_rich(table: Table) -> RichTable:
    """For a terminal of 80 columns; the notes are left to the caller. A word above several columns stands above the
    first of them."""
    made = document(table)
    shown = RichTable(title=Text(made.title, style="bold"), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    shown.padding = (0, 1, 0, 0)
    blank = "\n" * (len(made.header) - 1)
    for label in made.labels:
        shown.add_column(Text(blank + label), no_wrap=True)
    above = [[word for cell in line for word in [cell.text, *[""] * (cell.span - 1)]] for line in made.header]
    for *words, lowest, number in zip(*above, made.numbers, strict=True):
        name, at, point = lowest.partition(" at ")
        if not words and len(lowest) > LONG:
            lowest = name.replace(" ", "\n") + (f"\nat {point}" if at else "")
        header = Text("\n".join([*words, lowest]))
        shown.add_column(header, justify="right" if number else "left", no_wrap=number)
    room = [max((len(_marks(row.cells[i])) for row in made.rows), default=0) for i in range(len(made.numbers))]
    for row, after in zip(made.rows, [*made.rows[1:], None], strict=True):
        cells = [Text(label) for label in row.labels]
        cells += [_value(cell, space) for cell, space in zip(row.cells, room, strict=True)]
        shown.add_row(*cells, end_section=after is not None and after.begins)
    return shown


def notes(table: Table) -> list[str]:
    """With the star that stands for bold where a terminal shows none."""
    return [clean(note).replace("bold: ", "bold or *: ") for note in table.notes]


def _value(cell: Cell, room: int) -> Text:
    """Marks take equal room in a column, so that figures stand below each other; several words stand on lines."""
    words = cell.text.replace(", ", "\n") if isinstance(cell.value, str | Told) else cell.text
    made = Text(words, style="bold" if cell.mark == "best" else COLOURS.get(cell.text, ""))
    return made.append(_marks(cell).ljust(room) if cell.number else "")


def _marks(cell: Cell) -> str:
    return raised(cell.lacking) + {"best": "*", "tied": DAGGER}.get(cell.mark, "")
