"""How much of the gradient that reaches the last block reaches the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GradientRatio:
    """First block's gradient norm ÷ last block's, over the logged steps.

    Attributes:
        value: geometric mean over the steps at which both norms are positive and finite; 0 if the first block's
            gradient was exactly zero at every step where the last block's was not; None if neither can be said.
        steps: logged steps.
        zero_steps: of these, how many had a first block with every element of its gradient exactly zero.
        nonfinite_steps: of these, how many had an infinite or undefined norm.
    """

    value: float | None
    steps: int
    zero_steps: int
    nonfinite_steps: int


def gradient_ratio(first: Sequence[float] | np.ndarray, last: Sequence[float] | np.ndarray) -> GradientRatio:
    """The ratio of two series of norms, one number per logged step.

    >>> gradient_ratio([1e-3, 1e-5], [1.0, 1.0]).value
    0.0001
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(last, dtype=np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    both = finite & (a > 0) & (b > 0)
    value: float | None = None
    if both.any():
        logarithm = np.mean(np.log10(a[both]) - np.log10(b[both]))
        value = float(f"{10.0**logarithm:.12g}")
    elif (finite & (b > 0)).any():
        value = 0.0
    return GradientRatio(value, len(a), int((finite & (a == 0)).sum()), int((~finite).sum()))
