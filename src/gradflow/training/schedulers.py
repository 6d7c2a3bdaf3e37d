"""Learning-rate schedules: pure functions of the step, so that a restarted run needs no state of theirs.

Each returns the factor by which the base learning rate is multiplied at `step` (0 is the first) of `total` steps.
The first `warmup_steps` steps rise linearly to 1 (Goyal et al. 2017, section 2.2).
"""

from __future__ import annotations

import math

from gradflow.checked import Count, NonNegative, Share, Shares

MILESTONES = [0.5, 0.75]


def constant(step: int, total: int, /, *, warmup_steps: Count = 0) -> float:
    """1 after the warm-up."""
    return _warmup(step, warmup_steps)


def cosine(step: int, total: int, /, *, warmup_steps: Count = 0, final_factor: Share = 0.0) -> float:
    """Half a cosine from 1 down to `final_factor` (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    share = (step - warmup_steps) / max(1, total - warmup_steps)
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def step(
    step: int,
    total: int,
    /,
    *,
    warmup_steps: Count = 0,
    milestones: Shares = MILESTONES,
    factor: NonNegative = 0.1,
) -> float:
    """× `factor` at each milestone, a share of the budget: ÷10 at 50 % and 75 % as in He et al. 2016, section 4.2."""
    passed = sum(step >= milestone * total for milestone in milestones)
    return _warmup(step, warmup_steps) * float(factor**passed)


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / (warmup_steps + 1))
