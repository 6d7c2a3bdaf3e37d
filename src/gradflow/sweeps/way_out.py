"""What to type so that a grid leaves its impossible cells out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST = 3  # conditions: more are no help

Choices = dict[str, Any]


def way_out(cells: Sequence[Choices], faulty: Sequence[Sequence[int]]) -> str | None:
    """A condition for `sweep.where` that drops all faulty cells and no other; None where few choices do not tell them.

    Args:
        cells: the choices of each cell that the grid varies.
        faulty: for each fault the places of its cells.

    >>> grid = [{"norm": norm, "depth": depth} for norm in ("none", "batch") for depth in (2, 50)]
    >>> way_out(grid, [[1]])
    "not (norm=='none' and depth==50)"
    """
    bad = {place for places in faulty for place in places}
    vary = [key for key in cells[0] if any(cell.get(key) != cells[0][key] for cell in cells)]
    conditions: dict[str, None] = {}
    for places in faulty:
        first = cells[places[0]]
        shared = [key for key in vary if all(cells[place].get(key) == first[key] for place in places)]
        for key in list(shared):  # those that tell nothing are left out
            fewer = [other for other in shared if other != key]
            if fewer and _matching(cells, first, fewer) <= bad:
                shared = fewer
        if not shared or not _matching(cells, first, shared) <= bad:
            return None
        conditions["not (" + " and ".join(f"{key}=={first[key]!r}" for key in shared) + ")"] = None
    return " and ".join(conditions) if len(conditions) <= MOST else None


def _matching(cells: Sequence[Choices], like: Choices, keys: Sequence[str]) -> set[int]:
    return {place for place, cell in enumerate(cells) if all(cell.get(key) == like[key] for key in keys)}
