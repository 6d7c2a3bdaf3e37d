"""What goes wrong by a person's hand, said in one line a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """One or more mistakes in what was asked for; nothing has been trained yet.

    Args:
        lines: one complete sentence per mistake: the key, the value, what is allowed, the nearest match.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def choose_from(word: object, allowed: Iterable[str]) -> str:
    """The second half of a message about a wrong word: what is allowed, and the nearest match.

    >>> choose_from("rleu", ["relu", "tanh"])
    "allowed: relu, tanh; did you mean 'relu'?"
    """
    names = sorted(allowed)
    shown = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", …"
    near = get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"allowed: {shown or 'nothing'}" + (f"; did you mean '{near[0]}'?" if near else "")
