"""What is known without quadrature: rectifiers, the error function and linear networks, and numbers that papers print.

Everything here is independent of `moments` and `pairs`, which the tests hold against it.
"""

from __future__ import annotations

import math


def arc_cosine(order: int, c: float) -> float:
    """J_n(θ)/π at θ = arccos c: E φφ′ and E φ′φ′ of ReLU in units (Cho & Saul 2009, eqs. 3 to 6).

    2 E[uⁿ Θ(u) vⁿ Θ(v)] for standard Gaussians u, v with correlation c, Θ the step function: n = 0 for the slopes of
    ReLU, n = 1 for its values, n = 2 for those of squared ReLU.

    Args:
        order: n, 0, 1 or 2.
        c: in [−1, 1].

    Raises:
        ValueError: if either is out of range.
    """
    angle = math.acos(_correlation(c))
    rest = math.pi - angle
    if order == 0:
        return rest / math.pi
    if order == 1:
        return (math.sin(angle) + rest * c) / math.pi
    if order == 2:
        return (3 * math.sin(angle) * c + rest * (1 + 2 * c * c)) / math.pi
    raise ValueError(f"order={order}: must be 0, 1 or 2")


def leaky_pair(slope: float, q: float, c: float) -> tuple[float, float]:
    """(E φφ′, E φ′φ′) of a leaky ReLU, φ = z above 0 and a z below; 0 for ReLU, 1 for a linear network.

    φ = (1 + a)/2 · z + (1 − a)/2 · |z|, of which the products of z with |z| vanish.

    Args:
        slope: a.
        q: variance of both pre-activations.
        c: their correlation.
    """
    even, odd = ((1 - slope) / 2) ** 2, ((1 + slope) / 2) ** 2
    sines = math.sqrt(1 - _correlation(c) ** 2)
    return q * (odd * c + even * 2 / math.pi * (sines + c * math.asin(c))), odd + even * 2 / math.pi * math.asin(c)


def erf_pair(q: float, c: float) -> tuple[float, float]:
    """(E φφ′, E φ′φ′) of φ = erf (Williams 1997, eq. 11): (2/π) asin(2qc/(1 + 2q)), and its derivative by qc.

    Args:
        q: variance of both pre-activations.
        c: their correlation.
    """
    ratio = 2 * q * _correlation(c) / (1 + 2 * q)
    return 2 / math.pi * math.asin(ratio), 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)


def relu_correlation(c: float, layers: int = 1) -> float:
    """Correlation of pre-activations after so many He-initialised ReLU layers: c ↦ (√(1 − c²) + (π − arccos c) c)/π.

    1 − c falls as (9π²/2)/l² = 44.4/l²: by a power, since the map touches the diagonal (Poole et al. 2016; Hayou et al.
    2019, proposition 1).
    """
    for _ in range(layers):
        c = min(1.0, arc_cosine(1, c))
    return c


RELU_DECORRELATION = 9 * math.pi**2 / 2  # 1 − c → this / l²


def relu_batch_norm_rate() -> float:
    """χ of a block map → batch normalisation → ReLU for large batches: π/(π − 1) = 1.467 (Yang et al. 2019)."""
    return math.pi / (math.pi - 1)


def linear_batch_norm_rate(batch: int) -> float:
    """χ of a linear block with batch normalisation over B examples: (B − 2)/(B − 3) (Yang et al. 2019).

    Raises:
        ValueError: if B < 4.
    """
    if batch < 4:
        raise ValueError(f"batch={batch}: must be at least 4")
    return (batch - 2) / (batch - 3)


def glorot_variance(fan_in: int, fan_out: int) -> float:
    """Var W = 2/(fan_in + fan_out): between fan_in · Var W = 1 forward and fan_out · Var W = 1 backward (Glorot &
    Bengio 2010, eqs. 10 to 12)."""
    return 2 / (fan_in + fan_out)


STANDARD_SIGMA_W2 = 1 / 3  # of U[−1/√fan_in, 1/√fan_in] (Glorot & Bengio 2010, eq. 1)


def he_variance(fan: int, slope: float = 0.0) -> float:
    """Var W = 2/((1 + a²) fan) for a leaky ReLU of slope a (He et al. 2015, eq. 15)."""
    return 2 / ((1 + slope**2) * fan)


def attenuation(std: float, fans: list[int]) -> float:
    """By how much the standard deviation of gradients falls through ReLU layers whose weights all have one standard
    deviation, in place of √(2/fan) of each: 1/(1.7·10⁴) for VGG-B from conv10 to conv2 at 0.01 (He et al. 2015, 2.2).

    Args:
        std: of the weights.
        fans: of the layers' backward passes, kernel positions × filters.
    """
    return math.prod(std / math.sqrt(he_variance(fan)) for fan in fans)


def alpha_dropout(keep: float) -> tuple[float, float]:
    """(a, b) of a·x + b, by which alpha dropout restores mean 0 and variance 1 after setting units to α′ = −λα
    (Klambauer et al. 2017, section 2): a = (q + α′²q(1 − q))^{−1/2}, b = −a(1 − q)α′.

    Args:
        keep: q, the share of units kept, in (0, 1].
    """
    scale = 1 / math.sqrt(keep + SELU_DROPPED**2 * keep * (1 - keep))
    return scale, -scale * (1 - keep) * SELU_DROPPED


SELU_DROPPED = -1.0507009873554805 * 1.6732632423543772  # α′: the limit of SELU far below 0


def residual_growth(blocks: int) -> float:
    """E x² after so many He-initialised, un-normalised pre-activated residual ReLU blocks: 2^ℓ (De & Smith 2020)."""
    return 2.0**blocks


def lambda_shortcuts(scales: list[float]) -> float:
    """∏ λ_i, by which scaled shortcuts multiply the gradient that takes them all (He et al. 2016b, eq. 8)."""
    return math.prod(scales)


def _correlation(c: float) -> float:
    if not -1 <= c <= 1:
        raise ValueError(f"c={c}: a correlation must lie between −1 and 1")
    return c
