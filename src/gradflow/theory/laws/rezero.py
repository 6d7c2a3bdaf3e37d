"""x + α F(x) with whole layers in the branch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Signal, Step


@dataclass(frozen=True)
class ReZero(Layers):
    """x_l = x_{l−1} + α F(x_{l−1}), F = M N φ D once or several times (Bachlechner et al. 2021, eq. 1).

    F is independent of x unit by unit, but may have a mean: p ↦ p + 2α E x E F + α² E F² and χ = 1 + α² χ_F. With
    α = 0 every block is the identity, gradients of its weights are 0, and only α learns at first.

    Attributes:
        alpha: α.
    """

    alpha: float = field(default=0.0, kw_only=True)

    def step(self, signal: Signal) -> Step:
        found, alpha = self.branch(signal, "layer"), self.alpha
        f = found.signal
        cross = 2 * alpha * signal.mean * f.mean
        after = moved(
            signal.p + cross + alpha**2 * f.p,
            signal.p * signal.c + cross + alpha**2 * f.p * f.c,
            signal.mean + alpha * f.mean,
        )
        back = np.eye(2) + alpha**2 * found.back
        return Step(after, found.q, back, alpha**2 * found.weight, alpha**2 * found.bias)
