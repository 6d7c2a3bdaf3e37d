"""The joint law of two examples' values over the units of a wide layer, as a set of representative units.

Each block adds to every unit a Gaussian that is independent of it. Instead of pseudo-random numbers, whose errors fall
as 1/√N, units are sorted and given points of a Sobol sequence whose first coordinate runs along the sorted units
(array-RQMC: L'Ecuyer, Lécot & Tuffin 2008). Every layer shifts the others by numbers of its own, so that layers are
independent; the same call gives the same numbers, always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import ndtri

from gradflow.theory.law import Array, Signal
from gradflow.theory.response import Phi, alone, is_homogeneous, response, values_and_slopes

SIZE_LOG2 = 12  # units: 4096


def gaussians(x: Array, correlation: float, turn: int) -> Array:
    """N(0, 1) draws [2, N] with the given correlation of the rows, independent of the values x [2, N].

    Args:
        x: of N = 4096 units for two examples.
        correlation: of the draws for the two examples.
        turn: which draws; those of different layers must differ.
    """
    shift = np.random.default_rng(turn).random((2, 1))
    points = ndtri(np.clip((_points()[1:] + shift) % 1, 1e-12, 1 - 1e-12))
    scaled = x / max(math.sqrt(np.square(x[0]).mean()), 1e-300)
    drawn = np.empty_like(x)
    drawn[:, np.argsort(scaled[0] + 1e-9 * scaled[1], kind="stable")] = points
    known = np.stack([np.ones(x.shape[1]), *scaled])  # makes second moments exact: no products with x, or of the two
    drawn = drawn - np.linalg.lstsq(known.T, drawn.T, rcond=1e-9)[0].T @ known
    lower = np.linalg.cholesky(drawn @ drawn.T / x.shape[1])
    drawn = np.asarray(np.linalg.solve(lower, drawn), dtype=np.float64)
    return _mixed(drawn, correlation)


def activated(phi: Phi, signal: Signal, kinks: tuple[float, ...]) -> Array:
    """Values [2, N] of φ(u), φ(v) for Gaussian u, v such that E φ² = p and E φφ′ = p c; where φ cannot give that, as
    tanh cannot give p ≥ 1, Gaussian values with these moments."""
    draws = gaussians(np.zeros((2, 2**SIZE_LOG2)), 0.0, 0)
    q = _variance(phi, signal.p, kinks)
    if q is None:
        return math.sqrt(signal.p) * _mixed(draws, signal.c)
    c = _solve(lambda c: response(phi, q, c, kinks).product / signal.p - signal.c, -1.0, 1.0)
    if c is None:  # nearest that φ can give
        c = 1.0 if signal.c > 0 else -1.0
    z = torch.from_numpy((math.sqrt(q) * _mixed(draws, c)).ravel())
    return values_and_slopes(phi, z)[0].numpy().reshape(draws.shape)


def _variance(phi: Phi, p: float, kinks: tuple[float, ...]) -> float | None:
    """q at which E φ² = p, None if there is none."""
    if p > 0 and is_homogeneous(phi):
        return p / alone(phi, 1.0, kinks).square
    log = _solve(lambda log: alone(phi, math.exp(log), kinks).square - p, -30.0, 30.0)
    return None if log is None else math.exp(log)


def _mixed(draws: Array, c: float) -> Array:
    return np.stack([draws[0], c * draws[0] + math.sqrt(max(1 - c * c, 0.0)) * draws[1]])


def _solve(function: Callable[[float], float], low: float, high: float) -> float | None:
    """The root between the two, None if the function has one sign there."""
    ends = function(low), function(high)
    if abs(ends[1]) < 1e-12:
        return high
    if ends[0] * ends[1] > 0:
        return None
    return float(brentq(function, low, high, xtol=1e-10))


@cache
def _points() -> Array:
    """A scrambled Sobol sequence in three dimensions [3, N], sorted by the first."""
    from scipy.stats import qmc  # half a second to import

    points = qmc.Sobol(3, scramble=True, rng=np.random.default_rng(0)).random_base2(SIZE_LOG2).T
    return np.ascontiguousarray(points[:, np.argsort(points[0])])
