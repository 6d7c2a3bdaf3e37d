"""When a task counts as solved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """A bound on one figure of the validation split.

    >>> str(Criterion("mse", 0.05, at_most=True)), Criterion("mse", 0.05, at_most=True).met({"mse": 0.05})
    ('mse ≤ 0.05', True)

    Attributes:
        figure: one of those that the task's `score` gives.
        bound: which it must reach; reaching it exactly is enough.
        at_most: whether smaller figures are better: True for an error, False for an accuracy.
    """

    figure: str
    bound: float
    at_most: bool

    def met(self, values: dict[str, float]) -> bool:
        """Whether `values`, means over the validation split, reach the bound; NaN never does.

        Raises:
            KeyError: if the figure is not among them.
        """
        value = values[self.figure]
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{self.figure} {'≤' if self.at_most else '≥'} {self.bound:g}"
