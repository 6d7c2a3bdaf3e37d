"""Biases of forget gates that make units forget at the time scales of a task."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def chrono_bias(bias_H: Tensor, longest: int, generator: Generator) -> None:
    """Fill a forget gate's bias with log u, u ~ U[1, T_max − 1] (Tallec & Ollivier 2018).

    σ(log u) = 1 − 1/(1 + u): a unit then keeps its memory for about 1 + u steps, which range from 2 to T_max.

    Args:
        bias_H: one number per unit, filled in place.
        longest: T_max, in steps: that of the longest dependency which is expected.
    """
    with torch.no_grad():
        bias_H.uniform_(1, longest - 1, generator=generator).log_()


def check_chrono(longest: int | None) -> None:
    """Refuse an empty range.

    Raises:
        ValueError: for T_max = 1.
    """
    if longest is not None and longest < 2:
        raise ValueError(
            f"cell.chrono={longest} leaves no time to remember: give the steps of the longest dependency, at least 2, "
            "or null to leave the gates' biases alone"
        )
