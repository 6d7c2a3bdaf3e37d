"""A figure and how far it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    Attributes:
        value: the figure.
        low, high: the ends; None where there is no interval, as for a single run.
        count: runs or pairs behind it.
        symmetric: whether the interval is value ± one half-width, as Student's t, and is written so.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    symmetric: bool = False

    @property
    def half(self) -> float | None:
        """Half the interval's width; None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2
