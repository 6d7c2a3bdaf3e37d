"""To what depth a plain network can be trained, over the variance of its weights (Schoenholz et al. 2017, figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gradflow.models.weights import Weight
from gradflow.runs.build import factory
from gradflow.runs.config import Config
from gradflow.runs.identity import labels
from gradflow.runs.phis import known
from gradflow.runs.variances import variances
from gradflow.theory.fixed_point import fixed_point


def trainable_depths(config: Config, sigma_w2: Sequence[float]) -> np.ndarray:
    """6 ξ_c for each σ_w², with the activation and the σ_b² of a config: ∞ on the critical line.

    Raises:
        ValueError: if the activation does not act on every element by itself, or the init has no such σ_b².
    """
    activation, word = factory("activation", config.activation), str(labels(config)["activation"])
    phi = known(activation(), word)
    if phi.moments is not None:
        raise ValueError(f"activation={word} is not a function of one number")
    square = Weight(torch.empty(64, 64, device="meta"), torch.empty(64, device="meta"), activation=activation)
    sigma_b2 = variances(factory("init", config.init), square).sigma_b2
    return np.array([fixed_point(phi.phi, value, sigma_b2, phi.kinks).trainable_depth for value in sigma_w2])
