"""Between order and chaos: where χ₁ = 1, and the plane of (σ_w², σ_b²) around that line.

On the line both σ_w² = 1/E φ′² and σ_b² = q − E φ²/E φ′² are functions of q (Schoenholz et al. 2017, figure 1; Poole et
al. 2016, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.optimize import brentq
from torch import Tensor

from gradflow.theory.fixed_point import CRITICAL, LINEAR, fixed_point
from gradflow.theory.law import Array
from gradflow.theory.pairs import pair_values
from gradflow.theory.response import Phi, alone, is_homogeneous, values_and_slopes

LOG_RANGE = (-24.0, 24.0)  # of ln q in which a critical point is looked for
TABLE, ANGLES = 257, 25  # values of ln q, and of arccos c over [0, π/2], between which a phase diagram interpolates
BISECTIONS = 45


def critical_sigma_w2(phi: Phi, sigma_b2: float = 0.0, kinks: Sequence[float] = ()) -> float:
    """σ_w² at which a plain network neither shrinks nor grows the gradient: χ₁ = 1 at its fixed point.

    For rectifiers and linear networks χ₁ does not depend on q, and the answer is 1/E φ′² (2 for ReLU), even with
    biases, under which q then grows by σ_b² in every layer instead of settling.

    Args:
        phi: acts element by element; see `moments`.
        sigma_b2: σ_b².
        kinks: see `moments`.

    Raises:
        ValueError: if σ_b² is negative, or no σ_w² makes the fixed point that q reaches from 1 critical.

    >>> import torch
    >>> round(critical_sigma_w2(torch.tanh, 0.05), 4), round(critical_sigma_w2(torch.relu), 9)
    (1.761, 2.0)
    """
    if not 0 <= sigma_b2 < math.inf:
        raise ValueError(f"sigma_b2={sigma_b2}: a variance must be finite and at least 0")
    places = tuple(kinks)
    if is_homogeneous(phi):
        return 1 / alone(phi, 1.0, places).slope_square

    def excess(log: float) -> float:
        q = math.exp(log)
        one = alone(phi, q, places)
        return (q - one.square / one.slope_square - sigma_b2) / q if one.slope_square > 0 else -math.inf

    grid = np.linspace(*LOG_RANGE, 49)
    values = [excess(log) for log in grid]
    roots = [
        float(brentq(excess, a, b, xtol=1e-14))
        for a, b, f, g in zip(grid, grid[1:], values, values[1:], strict=False)
        if f * g < 0 and math.isfinite(f * g)
    ]
    if sigma_b2 == 0 and alone(phi, 0.0, places).mean == 0:
        roots.insert(0, math.log(LINEAR))  # q* = 0
    for root in roots:
        one = alone(phi, math.exp(root), places)
        if one.slope_square > 0:
            sigma_w2 = 1 / one.slope_square
            # from just below: q* = 0 itself is reached only slowly
            found = fixed_point(phi, sigma_w2 * (1 - 1e-7), sigma_b2, places)
            if abs(found.chi - 1) < 1e-3 and 0 <= found.q < math.inf:
                return sigma_w2
    raise ValueError(f"sigma_b2={sigma_b2}: no sigma_w2 makes the fixed point of this activation critical")


def critical_line(phi: Phi, sigma_b2: Iterable[float], kinks: Sequence[float] = ()) -> Array:
    """`critical_sigma_w2` for each of several σ_b²; nan where there is none.

    Args:
        phi, kinks: see `critical_sigma_w2`.
        sigma_b2: values of σ_b² [N].

    Returns:
        [N].
    """
    line = []
    for each in sigma_b2:
        try:
            line.append(critical_sigma_w2(phi, float(each), kinks))
        except ValueError:
            line.append(math.nan)
    return np.array(line)


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Fixed points over a grid, each [W, B] for W values of σ_w² and B of σ_b².

    Attributes:
        sigma_w2, sigma_b2: the grid's values [W] and [B].
        q: q*; 0 where the signal dies, ∞ where it grows without bound.
        chi: χ₁.
        c: c*.
        xi_c: ξ_c; ∞ at criticality.
    """

    sigma_w2: Array
    sigma_b2: Array
    q: Array
    chi: Array
    c: Array
    xi_c: Array


def phase_diagram(
    phi: Phi, sigma_w2: Iterable[float], sigma_b2: Iterable[float], kinks: Sequence[float] = ()
) -> PhaseDiagram:
    """Fixed points for every pair, from moments tabulated once over ln q and interpolated by cubic splines.

    Against `fixed_point`, q* and χ₁ agree to about 1e-5, relatively, where q* lies within e^±24, c* to 1e-4;
    ξ_c to 1e-5 over |1 − χ_c|, relatively. A scale-free point (ReLU at σ_w² = 2, σ_b = 0) has q = 1, as there.

    Args:
        phi, kinks: see `moments`.
        sigma_w2: W values.
        sigma_b2: B values.

    Raises:
        ValueError: if a variance is negative.
    """
    places = tuple(kinks)
    w, b = np.array(list(sigma_w2), dtype=np.float64), np.array(list(sigma_b2), dtype=np.float64)
    if not (np.all(w >= 0) and np.all(b >= 0)):
        raise ValueError("sigma_w2 and sigma_b2: variances must be at least 0")
    logs = np.linspace(*LOG_RANGE, TABLE)
    table = [alone(phi, math.exp(log), places) for log in logs]
    square, slope_square = np.array([each.square for each in table]), np.array([each.slope_square for each in table])
    ratio = CubicSpline(logs, square / np.exp(logs))  # E φ²/q, about 1 for most activations
    slope = CubicSpline(logs, slope_square)
    ww, bb = (each.ravel() for each in np.meshgrid(w, b, indexing="ij"))
    log_q = _log_fixed_points(ratio, logs, ww, bb)
    chi = ww * slope(np.clip(log_q, *LOG_RANGE))
    c, chi_c = np.ones_like(chi), chi.copy()
    chaotic = np.isfinite(log_q) & (chi > 1 + 1e-6)
    if chaotic.any():
        c[chaotic], chi_c[chaotic] = _correlations(phi, places, log_q[chaotic], ww[chaotic], bb[chaotic])
    with np.errstate(divide="ignore"):
        xi_c = np.where(np.abs(chi_c - 1) < 100 * CRITICAL, np.inf, -1 / np.log(chi_c))
    shape = len(w), len(b)
    return PhaseDiagram(w, b, *(each.reshape(shape) for each in (np.exp(log_q), chi, c, xi_c)))


def _log_fixed_points(ratio: CubicSpline, logs: Array, w: Array, b: Array) -> Array:
    """ln q* [N], ±∞ where the signal leaves the table: the first zero of the drift in the direction it has at q = 1."""

    def drift(log: Array, w: Array, b: Array) -> Array:
        return np.asarray(w * ratio(log) + b * np.exp(-log) - 1)

    start = drift(np.zeros_like(w), w, b)
    values = drift(logs[None], w[:, None], b[:, None])
    middle = len(logs) // 2
    found = np.zeros_like(w)
    for index, sign in enumerate(np.sign(np.where(np.abs(start) < CRITICAL, 0.0, start))):
        if sign == 0:
            continue
        way = values[index, middle:] if sign > 0 else values[index, middle::-1]
        crossed = np.flatnonzero(way * sign <= 0)
        if not len(crossed):
            found[index] = sign * math.inf
            continue
        far = middle + int(sign) * int(crossed[0])
        near = far - int(sign)

        def one(log: float, index: int = index) -> float:
            return float(w[index] * ratio(log) + b[index] * math.exp(-log) - 1)

        found[index] = brentq(one, logs[near], logs[far], xtol=1e-13)
    return found


def _correlations(phi: Phi, kinks: tuple[float, ...], log_q: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """(c*, χ_c) in the chaotic phase, by bisection over the angle arccos c."""
    low, high = float(log_q.min()), float(log_q.max())
    logs = np.linspace(low - 1e-6, high + 1e-6, max(8, min(16, math.ceil(4 * (high - low)))))
    angles = np.linspace(0, math.pi / 2, ANGLES)

    def integrand(z: Tensor) -> Tensor:
        return torch.stack(values_and_slopes(phi, z))

    table = np.array(
        [[pair_values(integrand, math.exp(log), math.cos(angle), kinks) for angle in angles] for log in logs]
    )
    product = RectBivariateSpline(logs, angles, table[:, :, 0] / np.exp(logs)[:, None], kx=5, ky=5)
    slopes = RectBivariateSpline(logs, angles, table[:, :, 1], kx=5, ky=5)
    start, end = np.full_like(log_q, 1e-3), np.full_like(log_q, math.pi / 2)
    for _ in range(BISECTIONS):
        middle = (start + end) / 2
        beyond = w * product.ev(log_q, middle) + b * np.exp(-log_q) > np.cos(middle)  # c is too small
        start, end = np.where(beyond, start, middle), np.where(beyond, middle, end)
    c = np.cos(end)
    c[end > math.pi / 2 - 1e-6] = 0.0  # an odd φ without biases
    return c, np.asarray(w * slopes.ev(log_q, end))
