"""A table in six formats, written from one document: the same numbers in each; CSV has them in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gradflow.results.formats.csv_format import to_csv
from gradflow.results.formats.html_format import to_html
from gradflow.results.formats.latex_format import to_latex
from gradflow.results.formats.markdown import to_markdown
from gradflow.results.formats.terminal import COLOURS, to_rich
from gradflow.results.formats.typst_format import to_typst
from gradflow.results.formats.words import text

if TYPE_CHECKING:
    from gradflow.results.table import Table

WRITERS: dict[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "html": to_html,
    "typst": to_typst,
}
SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".html": "html", ".typ": "typst"}

__all__ = [
    "COLOURS",
    "SUFFIXES",
    "WRITERS",
    "text",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "to_typst",
]
