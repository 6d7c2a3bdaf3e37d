"""Where the signal of a deep plain network settles, and over how many layers it does.

q ↦ σ_w² E φ(√q a)² + σ_b² and, at q*, c ↦ (σ_w² E φ(u)φ(v) + σ_b²)/q*: Poole et al. 2016, eqs. 3 and 5; depth scales
from Schoenholz et al. 2017, eqs. 8, 9 and 15. A network in time obeys the same equations, so that `recurrent` rests on
this file too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.optimize import brentq

from gradflow.theory.response import Phi, alone, response

SMALLEST, LARGEST = 1e-12, 1e12  # variances beyond are taken to be 0 and ∞
LINEAR = 1e-30  # a variance at which φ is linear, where q* = 0
CRITICAL = 1e-9  # |χ − 1| below which it is 1: ξ = ∞
TRAINABLE = 6.0  # in units of ξ_c: Schoenholz et al. 2017, section 5


@dataclass(frozen=True)
class FixedPoint:
    """Of a wide plain network with weights of variance σ_w²/fan_in and biases of variance σ_b².

    Attributes:
        q: q*, the variance at which pre-activations settle from 1. 0 if they die away; ∞ if they grow without bound.
        scale_free: whether every q is a fixed point, as for ReLU with σ_w² = 2, σ_b = 0; q is then 1, where it began.
        chi: χ₁ = σ_w² E φ′², by which a layer multiplies the expected squared gradient, at q*.
        c: c*, at which correlations of pre-activations settle: 1 in the ordered phase, χ₁ ≤ 1, below 1 in the chaotic
            one. At q* = 0 or ∞ it is 1, the limit in the published equations.
        chi_c: χ_c = σ_w² E φ′(u)φ′(v) at c*: χ₁ if c* = 1.
        growth: ∂q ↦ q at q*: χ₁ + σ_w² E φ″φ, computed as σ_w² E[u φ φ′]/q, which asks for no second derivative.
        error: estimated, relative, of the quadrature at q*.
    """

    q: float
    scale_free: bool
    chi: float
    c: float
    chi_c: float
    growth: float
    error: float

    @property
    def xi_q(self) -> float:
        """ξ_q = −1/ln(χ₁ + σ_w² E φ″φ): layers over which q approaches q* by a factor e; ∞ if it does not."""
        return _scale(self.growth)

    @property
    def xi_c(self) -> float:
        """ξ_c = −1/ln χ_c: layers over which correlations approach c* by a factor e; ∞ where they do so by a power."""
        return _scale(self.chi_c)

    @property
    def xi_gradient(self) -> float:
        """ξ_∇ = −1/ln χ₁: layers over which the squared gradient falls by a factor e; negative where it grows."""
        return _scale(self.chi)

    @property
    def trainable_depth(self) -> float:
        """6 ξ_c, the depth up to which Schoenholz et al. 2017 found networks to train; 6 |ξ_∇| where q* is 0 or ∞."""
        return TRAINABLE * abs(self.xi_c)


def fixed_point(
    phi: Phi, sigma_w2: float, sigma_b2: float = 0.0, kinks: Sequence[float] = (), *, keep: float = 1.0
) -> FixedPoint:
    """The fixed point that q reaches from 1 (the first one in the direction in which it sets out).

    Args:
        phi: acts element by element; see `gradflow.theory.moments.moments`.
        sigma_w2: σ_w², fan_in times the variance of a weight.
        sigma_b2: σ_b², the variance of a bias, or of whatever else adds to pre-activations.
        kinks: where φ or φ′ jumps, apart from 0.
        keep: ρ, the share of units that dropout leaves. q and χ₁ are as with σ_w²/ρ, but two examples' masks differ, so
            that equal inputs part: c* < 1 and ξ_c is finite whatever the weights (Schoenholz et al. 2017, section 4).

    Raises:
        ValueError: if a variance is negative or not finite, or keep is not in (0, 1].

    >>> import torch
    >>> tanh = fixed_point(torch.tanh, 2.0, 0.05)
    >>> f"{tanh.q:.4f} {tanh.chi:.4f} {tanh.c:.3f} {tanh.xi_c:.1f}"
    '0.7218 1.0477 0.744 25.2'
    """
    if not (0 <= sigma_w2 < math.inf and 0 <= sigma_b2 < math.inf):
        raise ValueError(f"sigma_w2={sigma_w2}, sigma_b2={sigma_b2}: variances must be finite and at least 0")
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}: the share of units that dropout leaves must lie in (0, 1]")
    places, dropped = tuple(kinks), sigma_w2 / keep
    q, scale_free = _settle(phi, dropped, sigma_b2, places)
    at = min(q, LARGEST) if q > 0 else LINEAR
    one = alone(phi, at, places)
    chi, growth = dropped * one.slope_square, dropped * one.growth
    if not 0 < q < math.inf or (keep == 1 and chi <= 1 + CRITICAL):
        c = 1.0  # where it is stable
    else:
        c = _correlation(phi, sigma_w2, sigma_b2, places, q)
    chi_c = chi if c == 1 else sigma_w2 * response(phi, at, c, places).slope_product
    return FixedPoint(q, scale_free, chi, c, chi_c, growth, one.error)


def _settle(phi: Phi, sigma_w2: float, sigma_b2: float, kinks: tuple[float, ...]) -> tuple[float, bool]:
    """(q*, whether every q is one)."""

    def drift(log: float) -> float:
        """Relative, of ln q."""
        q = math.exp(log)
        return (sigma_w2 * alone(phi, q, kinks).square + sigma_b2) / q - 1

    start = drift(0.0)
    if abs(start) < CRITICAL:
        return 1.0, abs(drift(math.log(3.0))) < CRITICAL and abs(drift(-math.log(3.0))) < CRITICAL
    stride = math.log(2.0) if start > 0 else -math.log(2.0)
    here, end = 0.0, math.log(LARGEST if start > 0 else SMALLEST)
    while abs(here) < abs(end):
        if drift(here + stride) * start <= 0:
            return math.exp(float(brentq(drift, here, here + stride, xtol=1e-15, rtol=1e-14))), False
        here += stride
    return (math.inf if start > 0 else 0.0), False


def _correlation(phi: Phi, sigma_w2: float, sigma_b2: float, kinks: tuple[float, ...], q: float) -> float:
    """c* below 1."""

    def drift(angle: float) -> float:
        c = math.cos(angle)
        return (sigma_w2 * response(phi, q, c, kinks).product + sigma_b2) / q - c

    low, high = 1e-4, math.pi / 2
    if drift(high) <= 1e-14:  # an odd φ without biases
        return 0.0
    if drift(low) >= 0:  # closer to 1 than can be told
        return 1.0
    return math.cos(float(brentq(drift, low, high, xtol=1e-14)))


def _scale(factor: float) -> float:
    """−1/ln, ∞ at 1."""
    if factor <= 0:
        return 0.0
    return math.inf if abs(factor - 1) < CRITICAL else -1 / math.log(factor)
