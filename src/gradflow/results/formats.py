"""A table as text: Markdown, CSV, LaTeX and a terminal's. The same numbers in each; CSV has them in full."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from gradflow.results.estimate import Estimate
from gradflow.results.memory import Told
from gradflow.results.table import Line, Table, Value

SMALL = 0.01  # below this, an estimate is written with an exponent
WORDS = ("verdict", "runs")  # columns that hold words
COLOURS = {"healthy": "green", "stagnant": "yellow", "vanishing": "blue", "exploding": "magenta", "diverged": "red"}
COLOURS |= {"gradient-free": "cyan", "dead": "magenta", "saturated": "yellow", "rank_collapse": "yellow"}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "·": r"\(\cdot\)",
    "÷": r"\(\div\)",
    "±": r"\(\pm\)",
    "√": r"\(\surd\)",
    "≥": r"\(\geq\)",
    "≤": r"\(\leq\)",
}
_GREEK_CAPITALS = frozenset(
    ["GAMMA", "DELTA", "THETA", "LAMBDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA"]
)
_ACCENTS = tuple("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")


def to_markdown(table: Table) -> str:
    """GitHub's pipe table, notes below."""

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    lines = [row(_headers(table)), "|" + " --- |" * len(table.rows) + " ---: |" * len(table.columns)]
    lines += [row(_cells(table, line)) for line in table.lines]
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def to_csv(table: Table) -> str:
    """One line per row; an estimate takes four columns, mean, low, high and n, but for chance, which is known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    wide = {c for c in table.columns if any(isinstance(line.values[c], Estimate) for line in table.lines)} - {"chance"}
    headers: list[str] = list(table.rows)
    for column in table.columns:
        name = table.metric if column == "metric" else table.points.get(column, column)
        headers += [name, f"{name} low", f"{name} high", f"{name} n"] if column in wide else [name]
    writer.writerow(headers)
    for line in table.lines:
        cells: list[Any] = [line.labels[row] for row in table.rows]
        for column in table.columns:
            value = line.values[column]
            if column not in wide:
                cells.append(_in_full(value))
            elif isinstance(value, Estimate):
                ends = ["", ""] if value.half is None else [value.mean - value.half, value.mean + value.half]
                cells += [value.mean, *ends, value.count]
            else:
                cells += ["", "", "", 0]
        writer.writerow(cells)
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs `tabular` in a `table`, to be \\input where booktabs is loaded; needs no other package."""
    columns = "l" * len(table.rows) + "".join("l" if column in WORDS else "r" for column in table.columns)
    caption = ". ".join([table.title, *(note[:1].upper() + note[1:] for note in table.notes)])
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{latex(caption)}.}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(latex, _headers(table))) + r" \\",
        r"\midrule",
    ]
    for before, line in zip([None, *table.lines], table.lines, strict=False):
        if before is not None and len(table.rows) > 1 and before.labels[table.rows[0]] != line.labels[table.rows[0]]:
            lines.append(r"\addlinespace")
        cells = [latex(_word(line.labels[row])) for row in table.rows]
        cells += [_latex_value(line.values[column]) for column in table.columns]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def to_rich(table: Table) -> RichTable:
    """For a terminal of 80 columns; the notes are left to the caller."""
    shown = RichTable(title=Text(table.title, style="bold"), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    shown.padding = (0, 1, 0, 0)
    for row in table.rows:
        shown.add_column(Text(row), no_wrap=True)
    for column in table.columns:
        words = column in WORDS
        name, at, point = table.header(column).partition(" at ")
        header = name.replace(" ", "\n") + (f"\nat {point}" if at else "")
        shown.add_column(Text(header), justify="left" if words else "right", no_wrap=not words)
    first = table.rows[0]
    for line, after in zip(table.lines, [*table.lines[1:], None], strict=True):
        ends = len(table.rows) > 1 and after is not None and after.labels[first] != line.labels[first]
        cells = [Text(cell.replace(", ", "\n"), style=COLOURS.get(cell, "")) for cell in _cells(table, line)]
        shown.add_row(*cells, end_section=ends)
    return shown


def text(value: Value) -> str:
    """A value as a person reads it: '0.953 ± 0.021', '1.1e-25', '–' where there is none."""
    if value is None:
        return "–"
    if isinstance(value, Estimate):
        if 0 < abs(value.mean) < SMALL:
            return f"{value.mean:.1e}" + ("" if value.half is None else f" ± {value.half:.1e}")
        digits = _digits(value)
        half = "" if value.half is None else f" ± {value.half:.{digits}f}"
        return f"{value.mean:.{digits}f}{half}"
    if isinstance(value, float):
        return "0" if value == 0 else f"{value:.1e}"
    return str(value)


def latex(words: str) -> str:
    """Plain text with LaTeX's special characters taken literally."""
    return "".join(map(_latex_character, words))


def _latex_character(character: str) -> str:
    """Greek as mathematics; a character that LaTeX's standard fonts lack by its number, so that the table compiles."""
    if character in _LATEX or character.isascii():
        return _LATEX.get(character, character)
    kind, _, letter = unicodedata.name(character, "").replace("LAMDA", "LAMBDA").rpartition(" LETTER ")
    if "α" <= character <= "ω" and letter not in ("OMICRON", "FINAL SIGMA"):
        return rf"\(\{letter.lower()}\)"
    if kind == "GREEK CAPITAL" and letter in _GREEK_CAPITALS:
        return rf"\(\{letter.capitalize()}\)"
    base, accents = unicodedata.normalize("NFD", character)[0], unicodedata.normalize("NFD", character)[1:]
    if character in "ßæøåœÆØÅŒłŁ–—‘’“”…" or (base.isascii() and base.isalpha() and accents in _ACCENTS):
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def _latex_value(value: Value) -> str:
    if value is None:
        return "--"
    if isinstance(value, Estimate):
        exponents = re.sub(r"e([+-]\d+)", lambda match: rf"\times10^{{{int(match[1])}}}", text(value))
        return "\\(" + exponents.replace("±", r"\pm") + "\\)"
    if isinstance(value, float):
        mantissa, _, exponent = text(value).partition("e")
        return rf"\({mantissa}\times10^{{{int(exponent)}}}\)" if exponent else rf"\({mantissa}\)"
    return latex(str(value))


def _digits(value: Estimate) -> int:
    """Three decimals for shares and losses, fewer for large numbers."""
    size = abs(value.mean)
    if size >= 100 and value.mean.is_integer() and not value.half:
        return 0
    return 3 if size < 100 else 1 if size < 10_000 else 0


def _headers(table: Table) -> list[str]:
    return [*table.rows, *(table.header(column) for column in table.columns)]


def _cells(table: Table, line: Line) -> list[str]:
    return [_word(line.labels[row]) for row in table.rows] + [text(line.values[column]) for column in table.columns]


def _in_full(value: Value) -> float | str:
    """In one cell of CSV."""
    if isinstance(value, Estimate):
        return value.mean
    return "" if value is None else value.exact if isinstance(value, Told) else value


def _word(label: Any) -> str:
    return "null" if label is None else str(label).lower() if isinstance(label, bool) else str(label)
