"""A booktabs `tabular` in a `table`, numbers aligned by siunitx."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from gradflow.results.formats.document import Above, Cell, Document, document
from gradflow.results.table import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "[": "{[}",  # after \\ a bare one would be an option of it
    "]": "{]}",
    "·": r"\(\cdot\)",
    "÷": r"\(\div\)",
    "±": r"\(\pm\)",
    "√": r"\(\surd\)",
    "≥": r"\(\geq\)",
    "≤": r"\(\leq\)",
    "−": r"\(-\)",
    "τ": r"\(\tau\)",
    "²": r"\(^2\)",
    "½": r"\(\frac12\)",
    "ⁿ": r"\(^n\)",
    "†": r"\(\dagger\)",
}
_GREEK_CAPITALS = frozenset(
    ["GAMMA", "DELTA", "THETA", "LAMBDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA"]
)
_ACCENTS = tuple("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
_PLAIN = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?: ± (\d+)(?:\.(\d+))?)?")  # 0.953 ± 0.021
_POWER = re.compile(r"(-?)(\d)\.(\d)e([+-]\d+)")  # 1.1e-25
SETUP = (
    "separate-uncertainty=true,retain-zero-uncertainty=true,table-align-uncertainty=false,"
    "reset-text-series=false,text-series-to-math=true"
)
NEEDS = r"% needs \usepackage{booktabs,siunitx,graphicx}, the last where the table is wider than the text"
LONG = 9  # letters of a header that stands on one line


def to_latex(table: Table) -> str:
    """To be \\input into a document that loads what its first line names (siunitx from version 3 on). A table that is
    wider than the text is scaled to it. A column of figures of one form is an S column, with its uncertainties; others
    are set as mathematics."""
    made = document(table)
    specs = [_spec([row.cells[i] for row in made.rows]) if n else "l" for i, n in enumerate(made.numbers)]
    lines = [
        NEEDS,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(made.title)}}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        rf"\sisetup{{{SETUP}}}",
        rf"\sbox0{{\begin{{tabular}}{{{'l' * len(made.labels)}{''.join(specs)}}}",
        r"\toprule",
        *_header(made),
        r"\midrule",
    ]
    for row in made.rows:
        if row.begins:
            lines.append(r"\addlinespace")
        cells = [_value(cell, spec) for cell, spec in zip(row.cells, specs, strict=True)]
        lines.append(" & ".join([*map(latex, row.labels), *cells]) + r" \\")
    lines += [
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
    ]
    if made.notes:
        notes = r" \par ".join(map(latex, made.notes))
        lines.append(
            rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {notes}\end{{minipage}}"
        )
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def latex(words: str) -> str:
    """Plain text with LaTeX's special characters taken literally."""
    return "".join(map(_latex_character, words))


def _header(made: Document) -> list[str]:
    """Words above several columns in the middle of them, with a rule below."""
    lines = []
    last = len(made.header) - 1
    for level, line in enumerate(made.header):
        corner = made.labels if level == last else [""] * len(made.labels)
        numbers = iter(made.numbers)
        cells = [_above(cell, [next(numbers) for _ in range(cell.span)]) for cell in line]
        lines.append(" & ".join([*map(latex, corner), *cells]) + r" \\")
        at = len(made.labels) + 1
        for cell in line if level < last else ():
            if cell.text and cell.span > 1:
                lines.append(rf"\cmidrule(lr){{{at}-{at + cell.span - 1}}}")
            at += cell.span
    return lines


def _above(cell: Above, numbers: Sequence[bool]) -> str:
    if cell.span > 1:
        return rf"\multicolumn{{{cell.span}}}{{c}}{{{latex(cell.text)}}}"
    words = latex(cell.text)
    if len(cell.text) > LONG and " " in cell.text:
        side = "r" if numbers[0] else "l"
        stacked = r" \\ ".join(map(latex, cell.text.split(" ")))
        words = rf"\shortstack[{side}]{{{stacked}}}"
    return rf"\multicolumn{{1}}{{r}}{{{words}}}" if numbers[0] else words


def _spec(cells: Sequence[Cell]) -> str:
    """An S column wide enough for all, or 'r'."""
    shown = [_unified(cell.text) for cell in cells]
    plain = [match for words in shown if (match := _PLAIN.fullmatch(words))]
    powers = [match for words in shown if (match := _POWER.fullmatch(words))]
    numbers = sum(any(c.isdigit() for c in words) and "/" not in words for words in shown)
    if not (plain or powers) or len(plain) + len(powers) < numbers:
        return "r"
    sign = "-" if any(match[1] for match in [*plain, *powers]) else ""
    whole = max([len(match[2]) for match in plain], default=1)
    decimals = max([len(match[3] or "") for match in [*plain, *powers]])
    unsure = max([len(f"{match[4]}{match[5] or ''}".lstrip("0") or "0") for match in plain if match[4]], default=0)
    power = max([len(match[4].lstrip("+-0") or "0") for match in powers], default=0)
    form = f"{sign}{whole}.{decimals}" + (f"({unsure})" if unsure else "") + (f"e-{power}" if power else "")
    after = max((_after(cell) for cell in cells), key=len)
    options = [f"table-format={form}"]
    options += [f"table-space-text-post={{{after}}}"] if after else []
    return f"S[{','.join(options)}]"


def _value(cell: Cell, spec: str) -> str:
    after = _after(cell)
    if spec == "l":
        return latex(cell.text) + after
    bold = cell.mark == "best"
    words = _unified(cell.text)
    plain, power = _PLAIN.fullmatch(words), _POWER.fullmatch(words)
    if spec.startswith("S"):
        if plain or power:
            front = r"\bfseries " if bold else ""
            return front + re.sub(r"e([+-])0*(\d)", r"e\1\2", words.replace(" ± ", " +- ")) + after
        return "{" + _word(words) + after + "}"
    if not any(character.isdigit() for character in words):
        return _word(words) + after
    if re.fullmatch(r"[-\d.e+± \[\],]+", words):
        exponents = re.sub(r"e([+-]\d+)", lambda match: rf"\times10^{{{int(match[1])}}}", words)
        shown = exponents.replace("±", r"\pm").replace(" [", r"\;[")
        return (rf"\(\mathbf{{{shown}}}\)" if bold else rf"\({shown}\)") + after
    return (rf"\textbf{{{latex(words)}}}" if bold else latex(words)) + after


def _after(cell: Cell) -> str:
    """What is raised behind a figure."""
    marks = latex(cell.lacking) + (r"\(\dagger\)" if cell.mark == "tied" else "")
    return rf"\textsuperscript{{{marks}}}" if marks else ""


def _word(words: str) -> str:
    return "--" if words == "–" else latex(words)


def _unified(words: str) -> str:
    return words.replace("−", "-")


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
