"""Singular values of the input–output Jacobian of a wide plain network: mean and variance of their squares.

J = ∏ D_l W_l, from x_{−1} to x_{L−1}, over whose n singular values s the mean m₁ = E s² and the variance of s² are
taken. At a fixed point m₁ = χ^L and Var s² = χ^{2L} L (μ₂/μ₁² − 1 − s₁), with μ_k = E φ′^{2k} and s₁ = −1 for Gaussian
weights, 0 for orthogonal ones (Pennington, Schoenholz & Ganguli 2017, eq. 17, and 2018, eq. 21). On the way to it the
factors of different layers multiply, and the variances relative to the squared mean add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from gradflow.theory.fixed_point import LINEAR, fixed_point
from gradflow.theory.moments import expectation
from gradflow.theory.response import Phi, alone, values_and_slopes

Weights = Literal["gaussian", "orthogonal"]


@dataclass(frozen=True)
class JacobianMoments:
    """Of the squared singular values s² of a Jacobian.

    Attributes:
        log_mean: ln E s².
        relative_variance: Var s² / (E s²)²: 0 is dynamical isometry; it grows in proportion to depth otherwise.
    """

    log_mean: float
    relative_variance: float

    @property
    def mean(self) -> float:
        """E s²; ∞ where it leaves the range of floating point."""
        return math.exp(self.log_mean) if self.log_mean < 700 else math.inf

    @property
    def variance(self) -> float:
        """Var s²."""
        log = 2 * self.log_mean
        return self.relative_variance * math.exp(log) if log < 700 else math.inf


def jacobian_moments(
    phi: Phi,
    sigma_w2: float,
    sigma_b2: float,
    depth: int,
    weights: Weights = "gaussian",
    *,
    q: float | None = None,
    kinks: Sequence[float] = (),
) -> JacobianMoments:
    """Mean and variance of s² over the singular values of ∂x_{L−1}/∂x_{−1}.

    Args:
        phi: acts element by element; see `moments`.
        sigma_w2: σ_w².
        sigma_b2: σ_b².
        depth: L.
        weights: Gaussian, or orthogonal times σ_w.
        q: variance of block 0's pre-activations; the fixed point q* if None.
        kinks: see `moments`.

    Raises:
        ValueError: if depth is below 1, weights have another name, or q is None and q* is ∞.
    """
    if depth < 1:
        raise ValueError(f"depth={depth}: must be at least 1")
    if weights not in ("gaussian", "orthogonal"):
        raise ValueError(f"weights={weights}: must be gaussian or orthogonal")
    places = tuple(kinks)
    now = fixed_point(phi, sigma_w2, sigma_b2, places).q if q is None else q
    if math.isinf(now):
        raise ValueError(f"sigma_w2={sigma_w2}: pre-activations grow without bound; give q, their first variance")
    log_mean, relative = 0.0, 0.0
    for _ in range(depth):
        at = max(now, LINEAR)
        first, second = slopes(phi, at, places)
        log_mean += math.log(sigma_w2 * first) if first > 0 and sigma_w2 > 0 else -math.inf
        relative += (second / first**2 if first > 0 else 1.0) - (0.0 if weights == "gaussian" else 1.0)
        if q is not None:
            now = sigma_w2 * alone(phi, at, places).square + sigma_b2
    return JacobianMoments(log_mean, relative)


@lru_cache(maxsize=4096)
def slopes(phi: Phi, q: float, kinks: tuple[float, ...] = ()) -> tuple[float, float]:
    """(E φ′², E φ′⁴) for pre-activations of variance q, above 0."""

    def integrand(z: Tensor) -> Tensor:
        square = values_and_slopes(phi, z)[1].square()
        return torch.stack([square, square.square()])

    (second, fourth), _ = expectation(integrand, q, kinks)
    return second, fourth
