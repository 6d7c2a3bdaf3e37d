"""φ(λ x + β F(x)): an activation after the addition."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from gradflow.theory.branch import Layers, moved
from gradflow.theory.law import Paths, Population, Signal, Step
from gradflow.theory.population import activated, gaussians
from gradflow.theory.response import values_and_slopes


@dataclass(frozen=True)
class Residual(Layers):
    """x_l = φ(λ x_{l−1} + β F(x_{l−1})), F = M N φ D … M N D (He et al. 2016, figure 2).

    Serves residual, scaled_shortcut and fixup_scalar, and stochastic_depth at evaluation, where β is the block's
    survival. F is Gaussian and independent of x, but x itself is not Gaussian, and a unit that was large stays large:
    the law of (x, x′) over units is followed as a population of 4096 representative units (see `population`), exact as
    their number grows and good to about 1e-3 with these. For the same reason a unit's gradient depends on its activity,
    and the gradient of a whole network is followed unit by unit (`Step.paths`); `Step.chi` alone, λ² E φ′² + χ_F E φ′²,
    neglects that and is too small for ReLU. With batch normalisation at the end of F, F is taken to be Gaussian: an
    error of O(1/batch). A signal without a population is taken to be φ of a Gaussian, as a stem's output is.

    Attributes:
        branch_scale: β.
        shortcut_scale: λ.
    """

    branch_scale: float = field(default=1.0, kw_only=True)
    shortcut_scale: float = field(default=1.0, kw_only=True)

    def step(self, signal: Signal) -> Step:
        crowd = signal.population
        x, turn = (crowd.values, crowd.turn) if crowd is not None else (activated(self.phi, signal, self.kinks), 0)
        found = self.branch(signal, "bare")
        f = found.signal
        added = self.branch_scale * np.sqrt(f.p) * gaussians(x, f.c, turn + 1)
        sums = torch.from_numpy((self.shortcut_scale * x + added).ravel())
        value, slope = (each.numpy().reshape(x.shape) for each in values_and_slopes(self.phi, sums))
        p, together = float(np.square(value).mean(1)[0]), float((value[0] * value[1]).mean())
        after = moved(p, together, float(value[0].mean()))
        paths = Paths(np.stack([slope[0] ** 2, slope[0] * slope[1]]), self.shortcut_scale**2)
        scale = self.branch_scale**2
        return Step(
            Signal(after.p, after.c, after.mean, Population(value, turn + 1)),
            found.q,
            scale * found.back,
            scale * found.weight,
            scale * found.bias,
            paths,
        )
