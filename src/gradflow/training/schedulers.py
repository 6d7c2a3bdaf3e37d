"""Learning-rate schedules: pure functions of the step, so that a restarted run needs no state of theirs.

Each returns the factor by which the base learning rate is multiplied at `step` (0 is the first) of `total` steps.
For a slow start see the remedy `warmup`.
"""

from __future__ import annotations

import math

from gradflow.checked import NonNegative, Share, Shares

MILESTONES = [0.5, 0.75]


def constant(step: int, total: int, /) -> float:
    """1 throughout."""
    return 1.0


def cosine(step: int, total: int, /, *, final_factor: Share = 0.0) -> float:
    """Half a cosine from 1 down to `final_factor` (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    share = min(1.0, step / total)
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * share)) / 2


def step(step: int, total: int, /, *, milestones: Shares = MILESTONES, factor: NonNegative = 0.1) -> float:
    """× `factor` at each milestone, a share of the budget: ÷10 at 50 % and 75 % as in He et al. 2016, section 4.2."""
    passed = sum(step >= milestone * total for milestone in milestones)
    return float(factor**passed)
