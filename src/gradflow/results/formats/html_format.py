"""A `<table>` to be put into a page, notes in its foot."""

from __future__ import annotations

from html import escape

from gradflow.results.formats.document import DAGGER, Above, Cell, Row, document
from gradflow.results.table import Table


def to_html(table: Table) -> str:
    """Classes: `gradflow` of the table; `label`, `number`, `word`, `best`, `tied` of cells; `begins` of the first row
    of a group. It looks right without a style sheet, and every word is escaped."""
    made = document(table)
    columns = len(made.labels) + len(made.numbers)
    lines = ['<table class="gradflow" cellpadding="4">', f"<caption>{escape(made.title)}</caption>", "<thead>"]
    for level, line in enumerate(made.header):
        corner = ""
        if level == 0:
            rows = f' rowspan="{len(made.header)}"' if len(made.header) > 1 else ""
            corner = "".join(f'<th class="label" scope="col"{rows}>{escape(label)}</th>' for label in made.labels)
        lines.append(f"<tr>{corner}{''.join(map(_above, line))}</tr>")
    lines += ["</thead>", "<tbody>", *map(_row, made.rows), "</tbody>"]
    notes = "<br>\n".join(map(escape, made.notes))
    lines += ["<tfoot>", f'<tr><td colspan="{columns}"><small>{notes}</small></td></tr>', "</tfoot>"] if notes else []
    return "\n".join([*lines, "</table>"]) + "\n"


def _above(cell: Above) -> str:
    span = f' colspan="{cell.span}"' if cell.span > 1 else ""
    return f'<th scope="{"colgroup" if span else "col"}"{span}>{escape(cell.text)}</th>'


def _row(row: Row) -> str:
    labels = "".join(f'<th class="label" scope="row" align="left">{escape(label)}</th>' for label in row.labels)
    begins = ' class="begins"' if row.begins else ""
    return f"<tr{begins}>{labels}{''.join(map(_value, row.cells))}</tr>"


def _value(cell: Cell) -> str:
    classes = " ".join(filter(None, ["number" if cell.number else "word", cell.mark]))
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    words = escape(cell.text)
    words = f"<strong>{words}</strong>" if cell.mark == "best" else words
    raised = f"<sup>{escape(cell.lacking)}</sup>" if cell.lacking else ""
    dagger = f"<sup>{DAGGER}</sup>" if cell.mark == "tied" else ""
    side = 'align="right" style="white-space: nowrap"' if cell.number else 'align="left"'
    return f'<td class="{classes}" {side}{hint}>{words}{raised}{dagger}</td>'
