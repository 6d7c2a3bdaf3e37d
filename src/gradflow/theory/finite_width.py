"""How much gradients of networks of finite width scatter around the mean-field line, from one draw to another.

Given the layer below, pre-activations are exactly N(0, q_l) with q_l = σ_w²‖x_{l−1}‖²/n + σ_b². To first order in 1/n,
ln‖∂L/∂x‖² is then a sum over layers of

    ln χ(q_l) + η_l + ω_l        Var ω = 2/n           of ‖Wᵀv‖², a χ² with n degrees of freedom
                                 Var η = 3(μ₂/μ₁² − 1)/n   of Σ φ′² g², with μ_k = E φ′^{2k}
    q_{l+1} − q* ≈ G (q_l − q*) + ν_l,  Var ν = σ_w⁴ Var φ²/n,  Cov(η, ν) = σ_w² Cov(φ², φ′²)/(n μ₁),  G = dq_{l+1}/dq_l

For ReLU χ does not depend on q and the variance is 5/n per layer (Hanin & Nica 2019, theorem 1; Hanin 2018): the
logarithm is close to normal with mean −½ and variance 1 times Σ 5/n, so that the typical gradient lies below its root
mean square by e^{−¼ Σ 5/n}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gradflow.theory.fixed_point import LINEAR, fixed_point
from gradflow.theory.law import Array
from gradflow.theory.moments import expectation
from gradflow.theory.response import Phi, values_and_slopes


@dataclass(frozen=True, eq=False)
class FiniteWidth:
    """Of ln‖∂L/∂x_l‖² − ln‖∂L/∂x_{L−1}‖² for one example, over draws of the weights of blocks l + 1 … L − 1.

    Attributes:
        mean: [L], 0 at L − 1: Σ ln χ − ½ variance, as of a log-normal with the mean-field mean. Exact to O(L/n) for
            rectifiers; for others a term of that order, from the curvature of χ(q), is left out.
        std: [L], 0 at L − 1.
    """

    mean: Array
    std: Array

    def log10_band(self, deviations: float = 1.0) -> tuple[Array, Array]:
        """(lower, upper) [L] of log₁₀(‖∂L/∂x_l‖/‖∂L/∂x_{L−1}‖).

        Args:
            deviations: half-width of the band in standard deviations.
        """
        half = deviations * self.std
        return (self.mean - half) / (2 * math.log(10)), (self.mean + half) / (2 * math.log(10))


def finite_width(
    phi: Phi,
    sigma_w2: float,
    sigma_b2: float,
    widths: Sequence[int],
    *,
    q: float | None = None,
    kinks: Sequence[float] = (),
) -> FiniteWidth:
    """Mean and standard deviation of the log of squared gradients in a plain network.

    Args:
        phi: acts element by element; see `moments`.
        sigma_w2: σ_w² of Gaussian weights. Orthogonal ones scatter less: for them this is an upper bound.
        sigma_b2: σ_b².
        widths: of x_{−1}, x_0, …, x_{L−1}, the L + 1 block boundaries.
        q: variance of block 0's pre-activations; the fixed point q* if None.
        kinks: see `moments`.

    Raises:
        ValueError: if there are fewer than two widths, or one is below 1, or q is None and q* is ∞.

    >>> relu = finite_width(torch.relu, 2.0, 0.0, [100] * 21)
    >>> round(float(relu.std[0]) ** 2, 9), round(float(relu.mean[0]), 9)
    (0.95, -0.475)
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError("widths: give those of all block boundaries, the stem's first; at least two, each above 0")
    places, depth = tuple(kinks), len(widths) - 1
    now = fixed_point(phi, sigma_w2, sigma_b2, places).q if q is None else q
    if math.isinf(now):
        raise ValueError(f"sigma_w2={sigma_w2}: pre-activations grow without bound; give q, their first variance")
    layers: list[_Layer] = []
    of_q = np.zeros(depth)  # variance of q_l
    for index in range(depth):
        layer = _layer(phi, max(now, LINEAR), places)
        layers.append(layer)
        if index + 1 < depth:
            noise = sigma_w2**2 * layer.value_variance / widths[index + 1]
            of_q[index + 1] = (sigma_w2 * layer.growth) ** 2 * of_q[index] + noise
        if q is not None:
            now = sigma_w2 * layer.square + sigma_b2
    mean, variance = np.zeros(depth), np.zeros(depth)
    chi, own, reach = 0.0, 0.0, 0.0  # Σ ln χ, Σ of layers' own variances, d Σ ln χ / dq of the next block
    for index in range(depth - 1, 0, -1):
        layer, n = layers[index], widths[index + 1]
        eta = 3 * layer.slope_variance / n
        nu = sigma_w2**2 * layer.value_variance / n
        own += 2 / widths[index] + eta + 2 * reach * sigma_w2 * layer.covariance / n + reach**2 * nu
        reach = layer.sensitivity + sigma_w2 * layer.growth * reach
        factor = sigma_w2 * layer.slope_square
        chi += math.log(factor) if factor > 0 else -math.inf
        variance[index - 1] = own + reach**2 * of_q[index]
        mean[index - 1] = chi - variance[index - 1] / 2
    return FiniteWidth(mean, np.sqrt(variance))


@dataclass(frozen=True)
class _Layer:
    """Expectations at one q.

    Attributes:
        square, slope_square: E φ², E φ′².
        growth: d E φ² / dq.
        sensitivity: d ln E φ′² / dq, as (E φ′² z²/q − E φ′²)/(2q E φ′²): the derivative acts on the density.
        value_variance: Var φ².
        slope_variance: Var φ′² / (E φ′²)².
        covariance: Cov(φ², φ′²) / E φ′².
    """

    square: float
    slope_square: float
    growth: float
    sensitivity: float
    value_variance: float
    slope_variance: float
    covariance: float


@lru_cache(maxsize=4096)
def _layer(phi: Phi, q: float, kinks: tuple[float, ...]) -> _Layer:
    def integrand(z: Tensor) -> Tensor:
        value, slope = values_and_slopes(phi, z)
        v, s = value.square(), slope.square()
        return torch.stack(
            [v, s, value * slope * z / q, s * (z.square() / q - 1) / (2 * q), v.square(), s.square(), v * s]
        )

    (v, s, growth, change, vv, ss, vs), _ = expectation(integrand, q, kinks)
    tiny = s if s > 0 else 1.0
    return _Layer(v, s, growth, change / tiny, vv - v * v, ss / tiny**2 - 1, (vs - v * s) / tiny)
