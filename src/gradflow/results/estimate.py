"""Small-sample statistics of one cell: a figure of the runs that share it, and its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gradflow.results.statistics.interval import Interval

STATISTICS = ("mean", "median", "iqm", "range")


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean and 95 % Student t interval, x̄ ± t₀.₉₇₅,ₙ₋₁ s/√n; None without values.

    Two seeds give wide intervals (t = 12.7): that is what two seeds say.

    >>> mean_interval([1.0, 2.0, 3.0])
    Interval(value=2.0, low=-0.484..., high=4.484..., count=3, symmetric=True)
    """
    if not values:
        return None
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, None, None, 1, True)
    from scipy.special import stdtrit  # the t quantile; a tenth of a second to import

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count, True)


def geometric_mean(values: Sequence[float]) -> float | None:
    """exp of the mean logarithm; 0 if any value is 0, None without values."""
    if not values:
        return None
    if min(values) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def estimate(statistic: str, strata: Sequence[Sequence[float]]) -> Interval | None:
    """One of `STATISTICS` of a cell; None without values.

    'mean' has Student's t interval; 'median' and 'iqm', the mean of the middle half, the percentile interval of a
    bootstrap that draws within each stratum; 'range' is the mean between the smallest and the largest value.

    Args:
        strata: values by setting: those of one stratum differ in their seed alone.
    """
    values = [value for stratum in strata for value in stratum]
    if not values:
        return None
    if statistic == "mean":
        return mean_interval(values)
    if statistic == "range":
        low, high = (None, None) if len(values) == 1 else (min(values), max(values))
        return Interval(math.fsum(values) / len(values), low, high, len(values))
    from gradflow.results.statistics.resample import bootstrap
    from gradflow.results.statistics.summary import iqm, median

    of: dict[str, Callable[..., object]] = {"median": median, "iqm": iqm}
    return bootstrap([list(stratum) for stratum in strata if stratum], of[statistic])  # type: ignore[arg-type]


def point(statistic: str, values: Sequence[float]) -> float:
    """The figure alone, without its interval.

    >>> point("iqm", [0.0, 1.0, 3.0, 100.0])
    2.0
    """
    ordered = sorted(values)
    count = len(ordered)
    if statistic == "median":
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    cut = count // 4 if statistic == "iqm" else 0
    return math.fsum(ordered[cut : count - cut]) / (count - 2 * cut)
