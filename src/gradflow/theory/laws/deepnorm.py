"""N(α x + F(x)): a normalisation of the sum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Signal, Step


@dataclass(frozen=True)
class DeepNorm(Layers):
    """x_l = LN(α x_{l−1} + F(x_{l−1})), F = M φ D once or several times, without a norm (Wang et al. 2022, figure 2).

    For layer normalisation of many features, or root-mean-square with `subtract_mean=False`; not for batch
    normalisation. v, the variance (the mean square) of the sum, divides both p and the squared gradient:
    χ = (α² + χ_F)/v.

    Attributes:
        alpha: α, L^¼ for L skips, as in gradflow.
        subtract_mean: whether the norm subtracts the mean over features.
        eps: added to v.
    """

    alpha: float = field(kw_only=True)
    subtract_mean: bool = field(default=True, kw_only=True)
    eps: float = field(default=1e-5, kw_only=True)

    def step(self, signal: Signal) -> Step:
        found, alpha = self.branch(signal, "layer"), self.alpha
        f = found.signal
        cross = 2 * alpha * signal.mean * f.mean
        square = alpha**2 * signal.p + cross + f.p
        product = alpha**2 * signal.p * signal.c + cross + f.p * f.c
        mean = alpha * signal.mean + f.mean
        off = mean**2 if self.subtract_mean else 0.0
        v = square - off + self.eps
        after = moved((square - off) / v, (product - off) / v, 0.0 if self.subtract_mean else mean / v**0.5)
        return Step(after, found.q, (alpha**2 * np.eye(2) + found.back) / v, found.weight / v, found.bias / v)
