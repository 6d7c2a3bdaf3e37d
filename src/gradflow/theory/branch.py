"""The layers of a block: maps M, normalisations N, activations φ and dropout D, in gradflow's three orders.

layer          M N φ D, M N φ D …
bare           M N φ D, … M N D      the activation follows an addition
preactivation  N φ D M, N φ D M …
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from gradflow.theory.law import Array, Signal
from gradflow.theory.norms import NoNorm, Norm
from gradflow.theory.response import Phi

Order = Literal["layer", "bare", "preactivation"]


@dataclass(frozen=True)
class Layers:
    """What a block's layers are made of. Every law has these fields.

    Attributes:
        phi: φ, maps a float64 tensor [N] to another, element by element; one function, not a new lambda for each law,
            so that equal laws are known to be equal.
        sigma_w2: σ_w² = fan_in · Var W of each map, one number for all of them or one for each, in order. Gaussian and
            orthogonal weights are the same to all that this theory predicts.
        sigma_b2: σ_b² = Var b, of all maps.
        kinks: where φ or φ′ jumps, apart from 0.
        norm: what stands where gradflow's blocks have a norm; none.
        keep: ρ, the share of units that dropout leaves, divided by ρ (Srivastava et al. 2014). Masks of two examples
            are independent, so that two equal inputs decorrelate (Schoenholz et al. 2017, section 4).
        maps: number of maps; 1, as in gradflow's perceptron.
        centred: whether every row of W is made to sum to 0, as by scaled weight standardisation (Brock et al. 2021).

    Raises:
        ValueError: if a variance is negative, `keep` is not in (0, 1], or there are not as many variances as maps.
    """

    phi: Phi
    sigma_w2: float | tuple[float, ...]
    sigma_b2: float = 0.0
    kinks: tuple[float, ...] = ()
    norm: Norm = field(default=NoNorm(), kw_only=True)
    keep: float = field(default=1.0, kw_only=True)
    maps: int = field(default=1, kw_only=True)
    centred: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not all(0 <= each < float("inf") for each in (*self.variances, self.sigma_b2)):
            raise ValueError(f"sigma_w2={self.sigma_w2}, sigma_b2={self.sigma_b2}: variances must be at least 0")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep}: the share of units that dropout leaves must lie in (0, 1]")
        if self.maps < 1 or len(self.variances) != self.maps:
            raise ValueError(f"maps={self.maps}, but {len(self.variances)} values of sigma_w2: give one for each map")

    @property
    def variances(self) -> tuple[float, ...]:
        """σ_w² of each map."""
        return self.sigma_w2 if isinstance(self.sigma_w2, tuple) else (self.sigma_w2,) * self.maps

    def branch(self, signal: Signal, order: Order) -> Branch:
        """What the layers make of a signal that enters them; in the order 'preactivation' it must be Gaussian."""
        now, q = signal, signal.p
        backs: list[Array] = []
        entering: list[tuple[int, Array]] = []  # (matrices before the map, gradients' pair of W per pair of z)
        for index, variance in enumerate(self.variances):
            if order == "preactivation":
                now, back = self._activate(now)
                backs.append(back)
            entering.append((len(backs), _outer_product(now)))
            now, back = self._map(now, variance)
            q = now.p
            backs.append(back)
            last = index == self.maps - 1
            if order == "layer" or (order == "bare" and not last):
                now, back = self._activate(now)
                backs.append(back)
            elif order == "bare":
                now, back = self._end(now)
                backs.append(back)
        back, weight, bias = np.eye(2), np.zeros((2, 2)), np.zeros((2, 2))
        for place in range(len(backs) - 1, -1, -1):
            for at, product in entering:
                if at == place:
                    weight, bias = weight + product @ back, bias + back
            back = backs[place] @ back
        return Branch(now, q, back, weight, bias)

    def _map(self, signal: Signal, sigma_w2: float) -> tuple[Signal, Array]:
        off = signal.mean**2 if self.centred else 0.0
        q = sigma_w2 * (signal.p - off) + self.sigma_b2
        together = sigma_w2 * (signal.p * signal.c - off) + self.sigma_b2
        return moved(q, together), sigma_w2 * np.eye(2)

    def _activate(self, signal: Signal) -> tuple[Signal, Array]:
        """N φ D."""
        found = self.norm.activate(self.phi, signal.p, signal.c, self.kinks)
        return moved(found.square / self.keep, found.product, found.mean), self._dropped(found.back)

    def _end(self, signal: Signal) -> tuple[Signal, Array]:
        """N D."""
        found = self.norm.activate(_itself, signal.p, signal.c, ())
        return moved(found.square / self.keep, found.product), self._dropped(found.back)

    def _dropped(self, back: Array) -> Array:
        return back @ np.diag([1 / self.keep, 1.0]) if self.keep < 1 else back


@dataclass(frozen=True, eq=False)
class Branch:
    """What layers did: the signal after them, q of their last map, and matrices as in `Step`."""

    signal: Signal
    q: float
    back: Array
    weight: Array
    bias: Array


def moved(p: float, together: float, mean: float = 0.0) -> Signal:
    """The signal with E x² = p, E xx′ = together."""
    return Signal(p, min(max(together / p, -1.0), 1.0) if p > 0 else 1.0, mean)


def _outer_product(signal: Signal) -> Array:
    """‖δxᵀ‖² = ‖δ‖² · p per unit of fan_in, and for two examples (δ·δ′)(x·x′)."""
    return np.diag([signal.p, signal.p * signal.c])


def _itself(z: Tensor) -> Tensor:
    return z
