"""What a Gaussian pre-activation becomes: E φ(z), E φ(z)², E φ′(z), E φ′(z)² for z ~ N(0, variance).

In a wide network pre-activations are Gaussian, so that these four say how a layer scales the signal on its way forward
and the gradient on its way back (Poole et al. 2016; Schoenholz et al. 2017): with weights of variance σ_w²/fan_in and
no biases, q ↦ σ_w² E φ² for the pre-activations' second moment and χ₁ = σ_w² E φ′² for the squared gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

TAIL = 12  # standard deviations; what lies beyond has probability 4e-33
COARSE, FINE = 16, 32  # Gauss-Legendre nodes per panel; their disagreement is the error estimate
SMALLEST_PANEL = -3  # log2 of the panel next to 0 or a kink, in units of z


@dataclass(frozen=True)
class Moments:
    """Expectations over z ~ N(0, variance).

    With several pre-activations z ∈ ℝᵐ, independent and alike, for n outputs h(z) ∈ ℝⁿ of Jacobian J = ∂h/∂z ∈ ℝⁿˣᵐ,
    the four are means over the outputs; for h = φ element by element, m = n, they are the φ and φ′ of the names.

    Attributes:
        mean: E φ, or Σ E hⱼ / n.
        square: E φ², or Σ E hⱼ² / n: the second moment of the next layer's pre-activations, if its weights have mean 0
            and variance 1/fan_in.
        slope: E φ′, or Σ E Jⱼᵢ / n.
        slope_square: E φ′², or E‖J‖² / n, Frobenius: the factor by which a layer multiplies the expected squared norm
            of the gradient. For if the pre-activations above have the gradient δ′, and the weights W that lead there
            have mean 0 and variance 1/n and are independent of z and δ′, the outputs' gradient g = Wᵀδ′ has
            uncorrelated elements of variance |δ′|²/n, and E|Jᵀg|² = Σ E Jⱼᵢ² |δ′|²/n.
        error: estimated, of the worst of the four, relative to the mean of the integrand's absolute value.
    """

    mean: float
    square: float
    slope: float
    slope_square: float
    error: float


def moments(phi: Callable[[Tensor], Tensor], variance: float = 1.0, kinks: Sequence[float] = ()) -> Moments:
    """The moments of an activation that acts element by element.

    Args:
        phi: maps a float64 tensor [N] on the CPU to another, in operations that autograd can differentiate.
        variance: of z, above 0.
        kinks: where φ or φ′ jumps, apart from 0. A forgotten one shows in `error`.

    Raises:
        ValueError: if the variance is not a finite number above 0.

    >>> relu = moments(torch.relu, variance=4.0)
    >>> round(relu.square, 12), round(relu.slope_square, 12)
    (2.0, 0.5)
    """

    def integrand(z: Tensor) -> Tensor:
        z.requires_grad_()
        value = phi(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
        return torch.stack([value, value.square(), slope, slope.square()]).detach()

    (mean, square, slope, slope_square), error = expectation(integrand, variance, kinks)
    return Moments(mean, square, slope, slope_square, error)


def expectation(
    integrand: Callable[[Tensor], Tensor], variance: float = 1.0, kinks: Sequence[float] = ()
) -> tuple[list[float], float]:
    """E f(z) for z ~ N(0, variance), of several functions f at once.

    Gauss-Legendre quadrature on panels no longer than one standard deviation, on which the density is smooth, and no
    longer than their distance from 0 or the nearest kink (or 1/8), on which the function is: an activation's own scale
    is 1, whatever the variance. Gauss-Hermite would need none of this, but a kink costs it all but two or three digits.

    Args:
        integrand: maps nodes z, float64 [N] on the CPU, to values [K, N], one row per function.
        variance: of z, above 0.
        kinks: where a function or its derivative jumps, apart from 0.

    Returns:
        K expectations, and the largest difference from those with half as many nodes, relative to E|f(z)|. The caller's
        default device, gradient mode and inference mode have no influence.

    Raises:
        ValueError: if the variance is not a finite number above 0.
    """
    if not 0 < variance < math.inf:
        raise ValueError(f"variance={variance}: must be a finite number above 0")
    sigma = math.sqrt(variance)
    edges = _edges(sigma, kinks)
    with torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
        (coarse, _), (fine, size) = (_integrate(integrand, sigma, edges, nodes) for nodes in (COARSE, FINE))
        error = ((fine - coarse).abs() / size.clamp_min(torch.finfo(torch.float64).tiny)).max()
    return fine.tolist(), float(error)


def _edges(sigma: float, kinks: Sequence[float]) -> list[float]:
    """Ends of the panels, in ascending order."""
    end = TAIL * sigma
    edges = {step * sigma for step in range(-TAIL, TAIL + 1)}
    distances = [2.0**power for power in range(SMALLEST_PANEL, max(SMALLEST_PANEL, math.ceil(math.log2(2 * end))))]
    for centre in {0.0, *kinks}:
        edges |= {centre, *(centre + d for d in distances), *(centre - d for d in distances)}
    return sorted(edge for edge in edges if abs(edge) <= end)


def _integrate(
    integrand: Callable[[Tensor], Tensor], sigma: float, edges: list[float], nodes: int
) -> tuple[Tensor, Tensor]:
    """(E f, E|f|), each [K]."""
    x, w = (torch.from_numpy(each) for each in _legendre(nodes))
    ends = torch.tensor(edges, dtype=torch.float64)
    half = ends.diff()[:, None] / 2
    z = (ends[:-1, None] + half * (1 + x)).flatten()
    density = torch.exp(-((z / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    weight = (half * w).flatten() * density
    values = integrand(z)
    return values @ weight, values.abs() @ weight


@cache
def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (−1, 1) and weights that sum to 2."""
    return np.polynomial.legendre.leggauss(nodes)
