"""Values as a person reads them."""

from __future__ import annotations

import unicodedata
from typing import Any

from gradflow.results.memory import SMALL
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.runs import plain
from gradflow.results.table import Value

DIRECTION = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would turn text around


def text(value: Value) -> str:
    """'0.953 ± 0.021', '0.953 [0.930, 0.961]', '1.1e-25', '–' where there is none."""
    if value is None:
        return "–"
    if isinstance(value, Interval):
        size = max(abs(end) for end in (value.value, value.low or 0.0, value.high or 0.0))
        form = ".1e" if value.value and size < SMALL else f".{digits(value)}f"
        if value.low is None or value.high is None or value.half is None:
            return f"{value.value:{form}}"
        if value.symmetric:
            return f"{value.value:{form}} ± {value.half:{form}}"
        return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"
    if isinstance(value, float):
        return "0" if value == 0 else f"{value:.1e}"
    return clean(str(value))


def label(value: Any) -> str:
    """A choice as a config says it."""
    return clean(plain(value))


def clean(words: str) -> str:
    """On one line, and without characters that would command a terminal or turn the text around."""
    return "".join(" " if c in "\n\r\t" else "\ufffd" if _commands(c) else c for c in words)


def digits(value: Interval) -> int:
    """Three decimals for shares and losses, fewer for large numbers."""
    size = abs(value.value)
    if size >= 100 and float(value.value).is_integer() and not value.half:
        return 0
    return 3 if size < 100 else 1 if size < 10_000 else 0


def _commands(character: str) -> bool:
    return character in DIRECTION or unicodedata.category(character) in ("Cc", "Cs")
