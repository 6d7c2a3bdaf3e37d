"""Order and chaos: by which factor a block of an activation multiplies the gradient, over the variances of weights and
biases (Poole et al. 2016, figure 1; Schoenholz et al. 2017, figure 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gradflow.models.initializers import fan_in_uniform, glorot_normal, he_normal
from gradflow.models.weights import Weight
from gradflow.runs.build import factory
from gradflow.runs.config import Config
from gradflow.runs.identity import labels
from gradflow.runs.phis import known
from gradflow.runs.variances import variances
from gradflow.theory import critical

POINTS = 81, 41  # of σ_w² and of σ_b²
LARGEST_SIGMA_B2 = 0.5
FARTHEST = 400.0  # the axis of σ_w² goes no further for a critical line
MARKS = {"fan_in_uniform": fan_in_uniform, "lecun, glorot, orthogonal": glorot_normal, "he": he_normal}


def phase_diagram(config: Config) -> dict[str, Any]:
    """For the config's activation, in plain layers without normalisation, all of one width.

    Returns:
        title: of a picture.
        sigma_w2, sigma_b2: the axes, arrays [W] and [B].
        log10_factor: ½ log10 χ₁, by which a block multiplies the gradient's norm, [B, W].
        unbounded: whether the signal grows without bound, [B, W].
        critical: σ_w² at which χ₁ = 1 for every σ_b², [B]; NaN where there is none.
        marks: (σ_w², σ_b²) of initialisers by their names.
        chosen: that of the config; None if it is one of them, or its init has no such numbers.

    Raises:
        ValueError: if the activation does not act on every element by itself.
    """
    activation, word = factory("activation", config.activation), str(labels(config)["activation"])
    phi = known(activation(), word)
    if phi.moments is not None:
        raise ValueError(f"activation={word} is not a function of one number, of which a phase diagram could be drawn")
    square = Weight(torch.empty(64, 64, device="meta"), torch.empty(64, device="meta"), activation=activation)
    marks = {name: (variances(init, square).sigma_w2, 0.0) for name, init in MARKS.items()}
    chosen = None
    try:
        own = variances(factory("init", config.init), square)
        chosen = (own.sigma_w2, own.sigma_b2)
    except ValueError:
        pass
    highest = max(LARGEST_SIGMA_B2, 1.25 * chosen[1] if chosen else 0.0)
    sigma_b2 = highest * np.linspace(0, 1, POINTS[1]) ** 2  # densest at 0, where critical lines are steepest
    line = critical.critical_line(phi.phi, sigma_b2, phi.kinks)
    shown = line[np.isfinite(line) & (line < FARTHEST)]
    end = max(4.0, 1.3 * float(shown.max()) if shown.size else 0.0, 1.25 * chosen[0] if chosen else 0.0)
    sigma_w2 = np.linspace(end / 400, end, POINTS[0])  # χ₁ of 0 has no logarithm
    found = critical.phase_diagram(phi.phi, sigma_w2, sigma_b2, phi.kinks)
    named = {name: at for name, at in marks.items() if end / 60 < at[0] < end}
    same = [name for name, at in named.items() if chosen is not None and np.allclose(at, chosen, rtol=1e-6)]
    if same:
        named[f"{same[0]} (this config)"], chosen = named.pop(same[0]), None
    return {
        "title": f"{word}: order and chaos",
        "sigma_w2": sigma_w2,
        "sigma_b2": sigma_b2,
        "log10_factor": 0.5 * np.log10(np.maximum(found.chi, 1e-300)).T,
        "unbounded": np.isinf(found.q).T,
        "critical": line,
        "marks": named,
        "chosen": chosen,
    }
