"""Expectations over one and two coordinates of a point on a sphere: what batch normalisation makes of a unit.

The values of B examples, centred and scaled to a mean square of 1, are √B times a unit vector of the B − 1 dimensions
orthogonal to (1 … 1). Their coordinates are û_b = √n t with n = B − 1 and t a coordinate of a point spread evenly on
the unit sphere of ℝⁿ, of density ∝ (1 − t²)^{(n−3)/2}; two of them have correlation −1/n. As B → ∞ they become
independent N(0, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from gradflow.theory.response import Phi, values_and_slopes

TAIL = 9.0  # standard deviations 1/√n of a coordinate
PANELS, NODES = 12, 12  # of each side of an integral without kinks; Gauss-Legendre nodes per panel


@dataclass(frozen=True)
class OnSphere:
    """Expectations over û, v̂, the values of two examples of one batch.

    Attributes:
        mean, square, product: E φ(û), E φ(û)², E φ(û)φ(v̂).
        slope_square, slope_square_u2: E φ′(û)², E φ′(û)² û².
        slope_product, slope_product_uv: E φ′(û)φ′(v̂), E φ′(û)φ′(v̂) ûv̂.
    """

    mean: float
    square: float
    product: float
    slope_square: float
    slope_square_u2: float
    slope_product: float
    slope_product_uv: float


@lru_cache(maxsize=256)
def on_sphere(phi: Phi, batch: int, kinks: tuple[float, ...] = ()) -> OnSphere:
    """By quadrature over the angles θ of t = sin θ, in which the density is a power of the cosine.

    Args:
        phi: acts element by element.
        batch: B, at least 4.
        kinks: where φ or φ′ jumps, apart from 0.
    """
    n = batch - 1
    root = math.sqrt(n)
    centres = np.array([0.0, *kinks])
    rho = -1 / n
    places = np.arccos(np.clip(centres / root, -1, 1))
    reached = np.cos(np.concatenate([math.acos(rho) - places, math.acos(rho) + places]))  # where v̂ just reaches a kink
    outer = np.concatenate([np.cos(places), reached])
    theta, weight = _nodes(_fixed(n)[None], outer[None], n - 2)
    u = root * np.sin(theta[0])
    weight = weight[0]
    across = math.sqrt(1 - rho**2) * root * np.cos(theta[0])  # reach of v̂ around ρû
    where = (centres[None] - rho * u[:, None]) / np.maximum(across, 1e-300)[:, None]
    angle, inner = _nodes(np.broadcast_to(_fixed(n - 1), (len(u), PANELS + 1)), np.clip(where, -1, 1), n - 3)
    v = rho * u[:, None] + across[:, None] * np.sin(angle)
    value, slope = (each.numpy() for each in values_and_slopes(phi, torch.from_numpy(u)))
    flat = values_and_slopes(phi, torch.from_numpy(v.ravel()))
    value_v, slope_v = (each.numpy().reshape(v.shape) for each in flat)

    def two(f: np.ndarray, g: np.ndarray) -> float:
        return float(weight @ (f * (g * inner).sum(1)))

    return OnSphere(
        mean=float(weight @ value),
        square=float(weight @ value**2),
        product=two(value, value_v),
        slope_square=float(weight @ slope**2),
        slope_square_u2=float(weight @ (slope * u) ** 2),
        slope_product=two(slope, slope_v),
        slope_product_uv=two(slope * u, slope_v * v),
    )


def _fixed(n: int) -> np.ndarray:
    """Ends of panels over the angles that matter."""
    end = math.pi / 2 if n < TAIL**2 else math.asin(min(1.0, TAIL / math.sqrt(n)))
    return np.linspace(-end, end, PANELS + 1)


def _nodes(ends: np.ndarray, sines: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles and weights ∝ cos^power that sum to 1, [A, E·NODES], on panels that also end at the given sines [A, K]."""
    ends = ends.reshape(len(sines), -1)
    ends = np.sort(np.concatenate([ends, np.clip(np.arcsin(sines), ends[:, :1], ends[:, -1:])], axis=1), axis=1)
    x, w = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(ends, axis=1)[:, :, None] / 2
    theta = (ends[:, :-1, None] + half * (1 + x)).reshape(len(ends), -1)
    weight = (half * w).reshape(len(ends), -1) * np.exp(power * np.log(np.cos(theta)))
    return theta, weight / weight.sum(1, keepdims=True)
