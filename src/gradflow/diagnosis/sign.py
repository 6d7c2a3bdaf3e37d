"""One reason for a verdict, and what a check gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gradflow.diagnosis.evidence import Evidence
from gradflow.diagnosis.thresholds import Thresholds

LARGEST = 1.7976931348623157e308  # stands for an infinite value, which JSON has not


@dataclass(frozen=True)
class Sign:
    """`value` is on the wrong side of `threshold`.

    Attributes:
        verdict: what it speaks for.
        name: of the check.
        what: what `value` is, in words that it can be put behind.
        value: always finite.
        threshold: see conf/diagnosis.yaml.
        where: the block, the time step or the training step; None for the run as a whole.
    """

    verdict: str
    name: str
    what: str
    value: float
    threshold: float
    where: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            object.__setattr__(self, "value", math.copysign(LARGEST, self.value) if self.value == self.value else 0.0)

    def __str__(self) -> str:
        where = "" if self.where is None else f" ({self.where})"
        return f"{self.what} {self.value:.3g}, threshold {self.threshold:.3g}{where}"


# A list of signs, empty where it was looked at and nothing is wrong; None where the evidence for it is missing.
Check = Callable[[Evidence, Thresholds], list[Sign] | None]
