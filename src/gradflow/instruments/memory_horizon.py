"""How far back a gradient reaches, and how fast it decays: pure functions on curves over lags.

Shapes: S lags, B examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

TRANSIENT = 0.25  # share of the lags, the nearest ones, that `decay` leaves out


@dataclass(frozen=True)
class Horizon:
    """Steps back from the last step after which a gradient has fallen below a share of its value there.

    Attributes:
        steps: the lag at which it crosses; where it never does, the length of the sequence, which no crossing can have.
        reached: whether it crosses.
    """

    steps: float
    reached: bool

    def __str__(self) -> str:
        return f"{self.steps:.3g}" if self.reached else f"≥ {self.steps:.3g}"


def memory_horizon(lags_S: np.ndarray, g_S: np.ndarray, share: float = 0.01) -> Horizon | None:
    """The first lag at which a curve falls below `share` of its value at lag 0.

    Between two measured lags the curve is taken to decay exponentially, so that a gradient measured at every 16th step
    has the horizon of one that is measured at every step; a fall to exactly zero counts at the lag where zero was
    measured. That the curve rises again further back has no influence.

    Args:
        lags_S: steps back from the last step, from 0 upwards.
        g_S: the norm at each lag, such as the median over examples.
        share: 0.01 and 0.001 are what gradflow's tables show.

    Returns:
        None where nothing can be said: the value at lag 0 is zero, or something before the crossing is not finite.

    Raises:
        ValueError: if the lags do not begin with 0 and rise, or `share` is not between 0 and 1.

    >>> lags = np.arange(50)
    >>> print(memory_horizon(lags, 0.5**lags), memory_horizon(lags, 0.99**lags))
    6.64 ≥ 50
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: must be between 0 and 1")
    lags, g = np.asarray(lags_S, dtype=np.float64), np.asarray(g_S, dtype=np.float64)
    if not len(lags) or lags[0] != 0 or (np.diff(lags) <= 0).any():
        raise ValueError("lags: must begin with 0 and rise")
    if not (math.isfinite(g[0]) and g[0] > 0):
        return None
    below = g < share * g[0]
    first = int(below.argmax()) if below.any() else len(g)
    if not np.isfinite(g[: first + 1]).all():
        return None
    if first == len(g):
        return Horizon(float(lags[-1] + 1), False)
    if g[first] == 0:
        return Horizon(float(lags[first]), True)
    high, low, wanted = math.log(g[first - 1]), math.log(g[first]), math.log(share) + math.log(g[0])
    return Horizon(float(lags[first - 1] + (lags[first] - lags[first - 1]) * (high - wanted) / (high - low)), True)


@dataclass(frozen=True)
class Decay:
    """The slope of ln g over the lag, per step: below 0 where the gradient vanishes, above 0 where it explodes.

    Attributes:
        rate: mean of the examples' slopes.
        low, high: 95 % confidence interval of that mean, from the spread of the examples' slopes (Student's t); NaN
            with fewer than two examples. Neighbouring lags are correlated, so that the residuals of one fit would make
            it far too narrow.
    """

    rate: float
    low: float
    high: float


def decay(lags_S: np.ndarray, g_SB: np.ndarray, transient: float = TRANSIENT) -> Decay | None:
    """Least squares of ln g over the lags beyond the first `transient` of them, for each example by itself.

    Where a norm is zero or not finite, an example's fit ends before that lag, with the transient taken of what is left.

    Args:
        lags_S: steps back from the last step, rising.
        g_SB: norms of every example.
        transient: the share of lags, the nearest, that is left out: there the gradient still turns towards the
            direction in which it then decays.

    Returns:
        None if no example has two lags to fit.

    >>> decay(np.arange(10), np.exp(-0.5 * np.arange(10))[:, None].repeat(3, 1)).rate
    -0.5
    """
    lags, g = np.asarray(lags_S, dtype=np.float64), np.asarray(g_SB, dtype=np.float64)
    if not 0 <= transient < 1:
        raise ValueError(f"transient={transient}: must be at least 0 and below 1")
    slopes = []
    for column in g.T:
        usable = np.isfinite(column) & (column > 0)
        stop = len(usable) if usable.all() else int(usable.argmin())
        start = int(stop * transient)
        if stop - start >= 2:
            x = lags[start:stop] - lags[start:stop].mean()
            slopes.append(float(x @ np.log(column[start:stop]) / (x @ x)))
    if not slopes:
        return None
    rate = float(f"{np.mean(slopes):.13g}")
    if len(slopes) < 2:
        return Decay(rate, math.nan, math.nan)
    half = float(stdtrit(len(slopes) - 1, 0.975) * np.std(slopes, ddof=1) / math.sqrt(len(slopes)))
    return Decay(rate, rate - half, rate + half)
