"""Layers alone, and the stem in front of the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Law, Signal, Step


@dataclass(frozen=True)
class Plain(Layers):
    """x_l = D φ(N(W x_{l−1} + b)), once or several times (skip=none; Schoenholz et al. 2017, eqs. 3, 5 and 12).

    Without norm and dropout q = σ_w² p + σ_b², χ = σ_w² E φ′(√q a)², and the gradient of the weights is
    E φ′² · p per fan_in. Weights may be Gaussian or orthogonal.
    """

    def step(self, signal: Signal) -> Step:
        found = self.branch(signal, "layer")
        return Step(found.signal, found.q, found.back, found.weight, found.bias)


@dataclass(frozen=True)
class Linear:
    """x = W x + b: the stem of blocks that begin with their own activation.

    Attributes:
        sigma_w2: fan_in · Var W.
        sigma_b2: Var b.
    """

    sigma_w2: float
    sigma_b2: float = 0.0

    def step(self, signal: Signal) -> Step:
        p = self.sigma_w2 * signal.p + self.sigma_b2
        weight = np.diag([signal.p, signal.p * signal.c])
        after = moved(p, self.sigma_w2 * signal.p * signal.c + self.sigma_b2)
        return Step(after, p, self.sigma_w2 * np.eye(2), weight, np.eye(2))


def stem(first: Law, square: float = 1.0, correlation: float = 0.0) -> Signal:
    """The signal at the stem's output.

    Args:
        first: the stem as a block of its own: `Plain(…)` for blocks that end with an activation, `Linear(…)` for those
            that begin with one.
        square: mean square of the inputs' elements; 1 for standardised data.
        correlation: E x x′ / E x² of two inputs, not centred; 0 for white noise, more for images.
    """
    return first.step(Signal(square, correlation)).signal
