"""The shape of a training loss: how far it falls, where it stops, plateaus, spikes and irregularity. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 5  # points of which a shape can be told
REACHED = 0.95  # share of its fall after which a loss has stopped falling
LEVEL = 0.05  # share of its range within which a loss is level
MOST_POINTS = 1000  # more are averaged over as many intervals, as a run's logging does
NOISE = 6.0  # robust standard deviations above which a point is a spike,
HEIGHT = 0.25  # and share of the running median, and of its whole range, that it must be above it
GAUSSIAN = 1.4826  # median absolute deviation → standard deviation of a Gaussian


@dataclass(frozen=True)
class Spike:
    """A rise that returns: where it is highest, and how many times the running median it is there."""

    step: int
    times: float


@dataclass(frozen=True)
class LossCurve:
    """What a loss did. Levels are running medians over a tenth of the points, so that no single point decides.

    Attributes:
        start: the first value: of the network as initialised, or of its first logging interval.
        end: median of the last tenth.
        falls: (start − end) ÷ |start|; below 0 where it rose.
        stagnates_at: first step at which the running median has made `REACHED` of its whole fall, from the start to its
            lowest level; the first step if it never falls.
        stops_after: the share of the run that this is.
        plateau_from, plateau_length: the longest stretch, in steps, in which the running median stays within `LEVEL` of
            the curve's range, or within three times its noise where that is more. The tail of a fall counts.
        spikes: points above the running median by more than `NOISE` robust standard deviations, `HEIGHT` of it, and
            `HEIGHT` of its range, so that a hard batch late in training is none; neighbours are one spike.
        irregularity: rises of the running median ÷ all its movement: 0 for a monotone fall, 0.5 for a walk that ends
            where it began, 1 for a rise.
    """

    start: float
    end: float
    falls: float
    stagnates_at: int
    stops_after: float
    plateau_from: int
    plateau_length: int
    spikes: tuple[Spike, ...]
    irregularity: float


def loss_curve(steps: Sequence[int] | np.ndarray, losses: Sequence[float] | np.ndarray) -> LossCurve | None:
    """The shape of a loss; None with fewer than `FEWEST` finite values.

    Running medians (Tukey 1977) follow a step and ignore a spike, where a running mean does neither. The noise is
    1.4826/√6 of the median absolute second difference: a trend has none, and half the points cannot move a median
    (Hampel 1974).

    Args:
        steps: rising.
        losses: one per step, of single steps or means over logging intervals; values that are not finite are left out.

    Raises:
        ValueError: if there is not one loss per step, or steps do not rise.

    >>> curve = loss_curve(range(100), [2.0] * 50 + [1.0] * 50)
    >>> curve.falls, curve.stagnates_at, curve.plateau_from, curve.irregularity
    (0.5, 50, 0, 0.0)
    """
    x, y = np.asarray(steps, dtype=np.int64), np.asarray(losses, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"losses: {y.shape} values for {x.shape} steps; there must be one per step")
    if (np.diff(x) <= 0).any():
        raise ValueError("steps: must rise")
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(y) < FEWEST:
        return None
    if len(y) > MOST_POINTS:
        ends = np.linspace(0, len(y), MOST_POINTS + 1).astype(np.int64)
        y, x = np.add.reduceat(y, ends[:-1]) / np.diff(ends), x[ends[1:] - 1]
    smooth = running_median(y, max(3, len(y) // 10))
    noise = GAUSSIAN * float(np.median(np.abs(np.diff(y, 2)))) / math.sqrt(6)
    start, end = float(y[0]), float(np.median(y[-max(3, len(y) // 10) :]))
    lowest = float(smooth.min())
    reached = smooth <= start - REACHED * (start - lowest)
    stagnates = int(x[int(reached.argmax())]) if lowest < start else int(x[0])
    first, length = _plateau(x, smooth, max(LEVEL * float(np.ptp(smooth)), 3 * noise))
    moves = np.diff(smooth)
    moved = float(np.abs(moves).sum())
    return LossCurve(
        start=start,
        end=end,
        falls=(start - end) / abs(start) if start else 0.0,
        stagnates_at=stagnates,
        stops_after=(stagnates - int(x[0])) / int(x[-1] - x[0]),
        plateau_from=first,
        plateau_length=length,
        spikes=_spikes(x, y, smooth, noise),
        irregularity=float(moves[moves > 0].sum()) / moved if moved > 0 else 0.0,
    )


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """The median of the nearest values [n], `width` of them (one more if it is even), fewer at the ends, where the
    window stays symmetric."""
    n = len(values)
    half = min(width // 2, (n - 1) // 2)
    inner = np.median(np.lib.stride_tricks.sliding_window_view(values, 2 * half + 1), axis=1)
    first = [np.median(values[: 2 * i + 1]) for i in range(half)]
    last = [np.median(values[n - 2 * i - 1 :]) for i in reversed(range(half))]
    return np.array([*first, *inner, *last])


def _plateau(x: np.ndarray, smooth: np.ndarray, tolerance: float) -> tuple[int, int]:
    """(first step, steps) of the longest stretch whose values lie within `tolerance` of each other."""
    best, first, begin = 0, int(x[0]), 0
    for stop in range(len(smooth)):
        while np.ptp(smooth[begin : stop + 1]) > tolerance:
            begin += 1
        if x[stop] - x[begin] > best:
            best, first = int(x[stop] - x[begin]), int(x[begin])
    return first, best


def _spikes(x: np.ndarray, y: np.ndarray, smooth: np.ndarray, noise: float) -> tuple[Spike, ...]:
    least = max(NOISE * noise, HEIGHT * float(np.ptp(smooth)))
    above = y - smooth > np.maximum(least, HEIGHT * np.abs(smooth))
    above[0] = False  # nothing is known of what came before
    peaks: list[int] = []
    last = -2
    for i in np.flatnonzero(above).tolist():
        if i > last + 1:
            peaks.append(i)
        elif y[i] > y[peaks[-1]]:
            peaks[-1] = i
        last = i
    return tuple(Spike(int(x[i]), float(y[i] / smooth[i]) if smooth[i] > 0 else math.inf) for i in peaks)
