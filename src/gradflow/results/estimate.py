"""Small-sample statistics of one cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `half` is the half-width of its 95 % interval, None for a single run."""

    mean: float
    half: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Estimate | None:
    """Mean and Student t interval, x̄ ± t₀.₉₇₅,ₙ₋₁ s/√n; None without values.

    Two seeds give wide intervals (t = 12.7): that is what two seeds say.

    >>> mean_interval([1.0, 2.0, 3.0])
    Estimate(mean=2.0, half=2.484..., count=3)
    """
    if not values:
        return None
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    from scipy.special import stdtrit  # the t quantile; a tenth of a second to import

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Estimate(mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count), count)


def geometric_mean(values: Sequence[float]) -> float | None:
    """exp of the mean logarithm; 0 if any value is 0, None without values."""
    if not values:
        return None
    if min(values) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))
