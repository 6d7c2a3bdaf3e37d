"""Every sign there is, each a small function of the evidence, in the order in which they are listed."""

from __future__ import annotations

from gradflow.diagnosis.sign import Check
from gradflow.diagnosis.signs import gradient, learning, through_time, units, weights

CHECKS: dict[str, Check] = {
    **{check.__name__: check for check in gradient.CHECKS},
    **{check.__name__: check for check in through_time.CHECKS},
    **{check.__name__: check for check in weights.CHECKS},
    **{check.__name__: check for check in units.CHECKS},
    **{check.__name__: check for check in learning.CHECKS},
}
