"""A typst `figure` with a `table`, to be included in a document."""

from __future__ import annotations

from gradflow.results.formats.document import DAGGER, Above, Cell, document
from gradflow.results.table import Table

FITTED = (  # no wider than the text
    "    layout(room => {",
    "      let width = measure(made).width",
    "      if width > room.width { scale(100% * (room.width / width), reflow: true, made) } else { made }",
    "    })",
)


def to_typst(table: Table) -> str:
    """Every word is a string literal, which typst shows as it is, so that none is taken for markup or code."""
    made = document(table)
    columns = len(made.labels) + len(made.numbers)
    align = ", ".join(["left"] * len(made.labels) + ["right" if number else "left" for number in made.numbers])
    lines = [
        "#figure(",
        f"  caption: {quoted(made.title)},",
        "  kind: table,",
        "  {",
        "    set text(size: 0.8em)",
        "    let made = table(",
        f"      columns: {columns},",
        f"      align: ({align},),",
        "      stroke: none,",
        "      inset: (x: 0.4em, y: 0.3em),",
        "      table.hline(stroke: 0.08em),",
        "      table.header(",
    ]
    last = len(made.header) - 1
    for level, line in enumerate(made.header):
        corner = []
        if level == 0:
            rows = f"rowspan: {len(made.header)}, align: bottom + left, " if last else ""
            corner = [f"table.cell({rows}{quoted(label)})" for label in made.labels]
        lines.append(f"        {', '.join([*corner, *(map(_above, line))])},")
        if level < last:
            lines += _rules(line, len(made.labels))
    lines += ["      ),", "      table.hline(stroke: 0.05em),"]
    for row in made.rows:
        if row.begins:
            lines.append("      table.hline(stroke: 0.03em + luma(180)),")
        lines.append(f"      {', '.join([*map(quoted, row.labels), *map(_value, row.cells)])},")
    lines += ["      table.hline(stroke: 0.08em),", "    )", *FITTED]
    if made.notes:
        notes = ", ".join(map(quoted, made.notes))
        lines.append(f"    block(width: 100%, align(left, text(size: 0.85em, ({notes},).join(linebreak()))))")
    return "\n".join([*lines, "  },", ")"]) + "\n"


def quoted(words: str) -> str:
    """As a string literal."""
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _above(cell: Above) -> str:
    return (
        f"table.cell(colspan: {cell.span}, align: center, {quoted(cell.text)})" if cell.span > 1 else quoted(cell.text)
    )


def _rules(line: list[Above], labels: int) -> list[str]:
    """Under words that span several columns."""
    made, at = [], labels
    for cell in line:
        if cell.span > 1:
            made.append(f"        table.hline(start: {at}, end: {at + cell.span}, stroke: 0.03em),")
        at += cell.span
    return made


def _value(cell: Cell) -> str:
    words = quoted(cell.text.replace(" ", "\u00a0") if cell.number else cell.text)  # a figure stays on its line
    words = f"strong({words})" if cell.mark == "best" else words
    raised = [f"super({quoted(cell.lacking)})"] if cell.lacking else []
    raised += [f"super({quoted(DAGGER)})"] if cell.mark == "tied" else []
    return " + ".join([words, *raised])
