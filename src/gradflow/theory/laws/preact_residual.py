"""λ x + β F(x), with norm and activation before each map of the branch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Signal, Step


@dataclass(frozen=True)
class PreactResidual(Layers):
    """x_l = λ x_{l−1} + β F(x_{l−1}), F = N φ D M once or several times (He et al. 2016b; Yang & Schoenholz 2017).

    Serves preact_residual, scaled_residual and skipinit. p ↦ λ² p + β² q and, as a sum of Gaussians, x stays Gaussian;
    χ = λ² + β² χ_F. He-initialised ReLU without norm doubles both in every block; with batch normalisation p grows by
    a constant instead (De & Smith 2020, section 3). The signal at the stem must be Gaussian: see `laws.stem`.

    Attributes:
        branch_scale: β; 1/√L for branch_scale='1/sqrt(depth)', α for skipinit.
        shortcut_scale: λ; other than 1, the shortcuts multiply gradients by λ^L (He et al. 2016b, eq. 8).
    """

    branch_scale: float = field(default=1.0, kw_only=True)
    shortcut_scale: float = field(default=1.0, kw_only=True)

    def step(self, signal: Signal) -> Step:
        found = self.branch(signal, "preactivation")
        carried, added = self.shortcut_scale**2, self.branch_scale**2
        p, q = signal.p, found.signal.p
        after = moved(carried * p + added * q, carried * p * signal.c + added * q * found.signal.c)
        back = carried * np.eye(2) + added * found.back
        return Step(after, found.q, back, added * found.weight, added * found.bias)
