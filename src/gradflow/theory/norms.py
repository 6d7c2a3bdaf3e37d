"""Normalisations of activations, as theory sees them: what N makes of Gaussian pre-activations, with φ after it.

A normalisation is given pre-activations of mean 0, variance q and correlation c and says what φ(N(z)) becomes, and the
matrix [2, 2] by which the pair (E‖g‖², E g·g′) of gradients (see `gradflow.theory.law.Step`) goes back through both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradflow.theory.law import Array
from gradflow.theory.response import Phi, response
from gradflow.theory.sphere import on_sphere


@dataclass(frozen=True, eq=False)
class Activated:
    """φ(N(z)): E φ, E φ², E φφ′ of two examples, and the matrix [2, 2] for the way back."""

    mean: float
    square: float
    product: float
    back: Array


class Norm(Protocol):
    """What acts on pre-activations of mean 0 before an activation. Scales are 1 and shifts 0, as at initialisation."""

    def activate(self, phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Activated:
        """φ(N(z)) for pre-activations of variance q and correlation c."""


@dataclass(frozen=True)
class NoNorm:
    """φ(z)."""

    def activate(self, phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Activated:
        r = response(phi, q, c, kinks)
        return Activated(r.mean, r.square, r.product, np.diag([r.slope_square, r.slope_product]))


@dataclass(frozen=True)
class LayerNorm:
    """z / √(q + eps): over the features of one example, each of which is a draw from N(0, q).

    It serves layer, root-mean-square and group normalisation alike: a Gaussian layer has mean 0 over many features, and
    the terms by which the backward pass projects gradients off the mean and off z are O(1/features). It does not serve
    norms over positions, or groups of few features.

    Attributes:
        eps: added to the variance; torch's default for `LayerNorm`.
    """

    eps: float = 1e-5

    def activate(self, phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Activated:
        variance = float(f"{q / (q + self.eps):.6e}")  # few values, each of which `response` then knows, as q grows
        r = response(phi, variance, c, kinks)
        return Activated(r.mean, r.square, r.product, np.diag([r.slope_square, r.slope_product]) / (q + self.eps))


@dataclass(frozen=True)
class BatchNorm:
    """(z − mean) / std over a batch of B examples, every two of which have the same correlation c.

    The B values of one unit, centred and scaled, are a point spread evenly on a sphere of radius √B in B − 1
    dimensions, whatever q and c are; two examples come out with correlation −1/(B − 1). Backwards,
    g ↦ (√B/r)(G − ûûᵀ) g with r² = |Gz|² ~ q(1 − c) χ²_{B−1}, G = 1 − 11ᵀ/B and û = Gz/r, so that
    E 1/r² = 1/(q(1 − c)(B − 3)) (Yang et al. 2019, section 3 and appendix). The gradients of a batch then sum to 0, so
    that those of two examples have correlation −1/(B − 1) below every block; the first matrix column is for
    uncorrelated ones, and `Step.rate` the factor of a long stack: π/(π − 1) for ReLU and B → ∞.

    Exact for infinite width and equally correlated examples but for `eps`, which is left out: it matters once q(1 − c)
    comes near 1e-5. After the first block that normalises all pairs of a batch are equally correlated, but for
    fluctuations O(1/width).

    Attributes:
        batch: B, at least 4: with 3 and fewer E 1/r² is infinite, and gradients have no second moment.

    Raises:
        ValueError: if the batch is smaller; in `activate`, if all examples are alike (c = 1): 0/0.
    """

    batch: int

    def __post_init__(self) -> None:
        if self.batch < 4:
            raise ValueError(f"batch={self.batch}: gradients through a normalised batch need at least 4 for a variance")

    def activate(self, phi: Phi, q: float, c: float, kinks: tuple[float, ...]) -> Activated:
        size = self.batch
        spread = q * (1 - c)
        if not spread > 0:
            raise ValueError(f"q={q}, c={c}: a batch of examples that are all alike cannot be normalised")
        s = on_sphere(phi, size, kinks)
        own = s.slope_square - (s.slope_square + s.slope_square_u2) / size
        other = -(size - 1) / size * (s.slope_product + s.slope_product_uv)
        first = np.array([own, other]) * size / ((size - 3) * spread)
        return Activated(s.mean, s.square, s.product, np.stack([first, -first / (size - 1)]))
