"""Sequences of (value, mark) pairs of which two are marked: what adding and multiplication share.

Shapes: B batch, T time, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.tasks.draws import integers


def marked(value_BT: Tensor, first_B: Tensor, second_B: Tensor, *, ends: float = 0.0) -> tuple[Tensor, Tensor]:
    """x [B, T, 2] with mark 1 at two positions and `ends` at both ends, and the values at the two positions [B, 2].

    The mark of an end stays even if the position is one of the two.
    """
    position_B2 = torch.stack([first_B, second_B], 1)
    mark_BT = torch.zeros_like(value_BT).scatter_(1, position_B2, 1.0)
    if ends:
        mark_BT[:, 0] = mark_BT[:, -1] = ends
    return torch.stack([value_BT, mark_BT], 2), value_BT.gather(1, position_B2)


def two_marks(length: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the first 10 pairs, then another of the first T/2 − 1 (Hochreiter & Schmidhuber 1997, experiment 4)."""
    first_B = integers(0, 10, (count,), generator)
    other_B = integers(0, length // 2 - 2, (count,), generator)
    return first_B, other_B + (other_B >= first_B)
