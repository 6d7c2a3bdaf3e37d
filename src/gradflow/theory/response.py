"""What an activation makes of a Gaussian pre-activation, for one example and for two: all that a law asks of φ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gradflow.theory.moments import expectation
from gradflow.theory.pairs import pair_values

Phi = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Response:
    """Expectations over u, v ~ N(0, q) with correlation c.

    Attributes:
        mean: E φ(u).
        square: E φ(u)².
        product: E φ(u) φ(v).
        slope_square: E φ′(u)².
        slope_product: E φ′(u) φ′(v).
    """

    mean: float
    square: float
    product: float
    slope_square: float
    slope_product: float


def values_and_slopes(phi: Phi, z: Tensor) -> tuple[Tensor, Tensor]:
    """(φ(z), φ′(z)), each [N], by autograd.

    Args:
        phi: element by element; a constant one has slope 0.
        z: float64 [N] on the CPU.
    """
    with torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        value = phi(z)
        if not value.requires_grad:
            return value, torch.zeros_like(value)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope


@lru_cache(maxsize=4096)
def response(phi: Phi, q: float, c: float, kinks: tuple[float, ...] = ()) -> Response:
    """All five; at q = 0 those of φ(0), with the slope that autograd gives there.

    Args:
        phi: acts element by element; hashable, as functions are.
        q: variance, at least 0.
        c: correlation, in [−1, 1].
        kinks: where φ or φ′ jumps, apart from 0.

    Raises:
        ValueError: if q or c is out of range.
    """
    if q > 0 and is_homogeneous(phi):
        unit = _response(phi, 1.0, c, kinks)
        root = math.sqrt(q)
        return replace(unit, mean=root * unit.mean, square=q * unit.square, product=q * unit.product)
    return _response(phi, q, c, kinks)


def _response(phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Response:
    one = alone(phi, q, kinks)
    if q == 0 or c >= 1:
        return Response(one.mean, one.square, one.square, one.slope_square, one.slope_square)
    if c == 0:
        return Response(one.mean, one.square, one.mean**2, one.slope_square, one.slope**2)
    product, slope_product = _products(phi, kinks, float(f"{q:.11e}"))(c)
    return Response(one.mean, one.square, product, one.slope_square, slope_product)


@lru_cache(maxsize=256)
def is_homogeneous(phi: Phi) -> bool:
    """Whether φ(az) = aφ(z) for a > 0, as for linear and leaky rectifiers: then one variance tells all others."""
    z = torch.logspace(-3, 3, 13, dtype=torch.float64)
    z = torch.cat([-z, z])
    with torch.device("cpu"), torch.no_grad():
        return bool(torch.allclose(phi(1024 * z), 1024 * phi(z), rtol=1e-12, atol=0))


class _Products:
    """E φφ′ and E φ′φ′ at one variance. In θ = arccos c they are smooth, kinks or not, so that once a variance has come
    up a few times, as along a deep network, they are interpolated on a grid that is filled where it is used."""

    SEEN = 6  # computations after which the grid is used
    CELLS, STENCIL = 128, 8  # over [0, π]; nodes of an interpolation, of order h⁸ = 1e-13

    def __init__(self, phi: Phi, kinks: tuple[float, ...], q: float) -> None:
        self.phi, self.kinks, self.q, self.seen = phi, kinks, q, 0
        self.grid: dict[int, list[float]] = {}

    def __call__(self, c: float) -> list[float]:
        self.seen += 1
        if self.seen <= self.SEEN or self.q > 100:
            return self.at(c)
        place = math.acos(c) * self.CELLS / math.pi
        first = min(max(math.floor(place) - self.STENCIL // 2 + 1, 0), self.CELLS - self.STENCIL + 1)
        total = [0.0, 0.0]
        for node in range(first, first + self.STENCIL):
            if node not in self.grid:
                self.grid[node] = self.at(math.cos(node * math.pi / self.CELLS))
            weight = 1.0
            for other in range(first, first + self.STENCIL):
                if other != node:
                    weight *= (place - other) / (node - other)
            total = [sum_ + weight * each for sum_, each in zip(total, self.grid[node], strict=True)]
        return total

    def at(self, c: float) -> list[float]:
        return pair_values(lambda z: torch.stack(values_and_slopes(self.phi, z)), self.q, c, self.kinks)


@lru_cache(maxsize=64)
def _products(phi: Phi, kinks: tuple[float, ...], q: float) -> _Products:
    return _Products(phi, kinks, q)


@dataclass(frozen=True)
class Alone:
    """Expectations over one u ~ N(0, q).

    Attributes:
        mean, square, slope, slope_square: E φ, E φ², E φ′, E φ′².
        growth: d E φ² / dq, which is E[u φ φ′] / q.
        error: relative, estimated, of the worst.
    """

    mean: float
    square: float
    slope: float
    slope_square: float
    growth: float
    error: float


@lru_cache(maxsize=4096)
def alone(phi: Phi, q: float, kinks: tuple[float, ...] = ()) -> Alone:
    """See `response`; `growth` needs no second derivative: E φ(√q a)² differentiates under the integral."""
    if q == 0:
        value, slope = (float(each) for each in values_and_slopes(phi, torch.zeros(1, dtype=torch.float64)))
        return Alone(value, value**2, slope, slope**2, slope**2, 0.0)

    def integrand(z: Tensor) -> Tensor:
        value, slope = values_and_slopes(phi, z)
        return torch.stack([value, value.square(), slope, slope.square(), value * slope * z / q])

    (mean, square, slope, slope_square, growth), error = expectation(integrand, q, kinks)
    return Alone(mean, square, slope, slope_square, growth, error)
