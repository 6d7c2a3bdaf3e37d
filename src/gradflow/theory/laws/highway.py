"""T(x) H(x) + (1 − T(x)) x."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Signal, Step
from gradflow.theory.response import response


@dataclass(frozen=True)
class Highway(Layers):
    """x_l = T H + (1 − T) x_{l−1}, H = F(x) in whole layers, T = σ(W_T x + b_T) (Srivastava et al. 2015, eq. 3).

    T, H and x are independent unit by unit, so that all moments factor; the gradient goes back through 1 − T, through
    H, and through T itself, which adds σ_T² E T′² E(H − x)²:
    χ = E(1 − T)² + χ_H E T² + σ_T² E T′² E(H − x)². `weight` and `bias` count the gate's own.

    Attributes:
        gate_bias: b_T, a constant.
        gate_sigma_w2: σ_T² of the gate's map; None for that of the first map.
    """

    gate_bias: float = field(default=-2.0, kw_only=True)
    gate_sigma_w2: float | None = field(default=None, kw_only=True)

    def step(self, signal: Signal) -> Step:
        found = self.branch(signal, "layer")
        h, p, together = found.signal, signal.p, signal.p * signal.c
        sigma_t2 = self.variances[0] if self.gate_sigma_w2 is None else self.gate_sigma_w2
        gate = response(Gate(self.gate_bias), sigma_t2 * p, signal.c)
        opened = np.array([gate.square, gate.product])  # E T², E TT′
        crossed = gate.mean - opened  # E T(1 − T), E T(1 − T′)
        closed = 1 - 2 * gate.mean + opened  # E(1 − T)², E(1 − T)(1 − T′)
        of_h, of_x = np.array([h.p, h.p * h.c]), np.array([p, together])
        means = signal.mean * h.mean
        square, product = opened * of_h + 2 * crossed * means + closed * of_x
        after = moved(square, product, gate.mean * h.mean + (1 - gate.mean) * signal.mean)
        turned = np.array([gate.slope_square, gate.slope_product]) * (of_h - 2 * means + of_x)
        through = np.diag(opened)
        return Step(
            after,
            found.q,
            np.diag(closed) + found.back @ through + sigma_t2 * np.diag(turned),
            found.weight @ through + np.diag(turned * of_x),
            found.bias @ through + np.diag(turned),
        )


@dataclass(frozen=True)
class Gate:
    """σ(z + bias)."""

    bias: float

    def __call__(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z + self.bias)
