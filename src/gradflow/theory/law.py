"""The words of the theory: a signal between two blocks, what one block makes of it, and the law of a block.

A network is stem → L blocks → head. The signal lives at the block boundaries: x_l is the output of block l, from 0 to
L − 1, and x_{−1} the stem's. Widths are infinite, weights independent, and the gradient from above independent of
the forward pass, as usual in mean-field theory (Poole et al. 2016; Schoenholz et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Population:
    """The joint law of (x, x′) over the units of a layer, for blocks under which it does not stay Gaussian.

    Attributes:
        values: [2, N]: N units' outputs for the two examples.
        turn: layers passed, so that each is given draws of its own.
    """

    values: Array
    turn: int


@dataclass(frozen=True)
class Signal:
    """What two inputs have become between two blocks.

    Attributes:
        p: E x² per unit, at least 0.
        c: E x x′ / p for two examples, in [−1, 1]. It is not centred.
        mean: E x per unit, 0 where x is Gaussian.
        population: the law of x, where a block needs more of it than these three.

    Raises:
        ValueError: if p or c is out of range.
    """

    p: float
    c: float = 0.0
    mean: float = 0.0
    population: Population | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.p < math.inf:
            raise ValueError(f"p={self.p}: the second moment of a signal must be a finite number of at least 0")
        if not -1 - 1e-9 <= self.c <= 1 + 1e-9:
            raise ValueError(f"c={self.c}: the correlation of two examples must lie between −1 and 1")


@dataclass(frozen=True, eq=False)
class Paths:
    """φ′ of every unit of a `Population` where a shortcut passes through the activation: units whose slope is small in
    one block tend to have a small one in the next, so that the gradient must be followed unit by unit.

    Attributes:
        slope: [2, N]: E φ′² of one example (row 0) and φ′φ′ of the two (row 1).
        carried: λ², by which the shortcut multiplies squared gradients.
    """

    slope: Array
    carried: float


@dataclass(frozen=True, eq=False)
class Step:
    """What one block does to a signal on its way forward and to gradients on their way back.

    The gradients' state is the pair (E‖g‖², E g·g′): squared norm of one example's gradient and the inner product of
    two examples', over all units. The matrices [2, 2] multiply that pair at the block's output (with `paths`, after the
    slopes of the last activation). They are diagonal unless a normalisation over the batch mixes examples.

    Attributes:
        signal: after the block.
        q: E z² of the pre-activations of the block's last map, biases included.
        back: to the pair at the block's input.
        weight: to that of the weights' gradients, summed over the block's maps and divided by fan_in.
        bias: to that of the biases' gradients, summed over the block's maps.
        paths: see `Paths`; None for most blocks.
    """

    signal: Signal
    q: float
    back: Array
    weight: Array
    bias: Array
    paths: Paths | None = None

    @property
    def chi(self) -> float:
        """E‖∂L/∂x_{l−1}‖² / E‖∂L/∂x_l‖², for uncorrelated gradients of the examples in a batch."""
        return self._of(0)

    @property
    def chi_pair(self) -> float:
        """The same factor for the inner product of two examples' gradients."""
        return self._of(1)

    @property
    def rate(self) -> float:
        """The factor on ‖∂L/∂x‖² per block of a long stack of blocks like this: the largest eigenvalue of the map of
        both. It differs from `chi` by O(1/batch) where a batch is normalised, otherwise it is the larger of the two."""
        if self.paths is not None:
            return max(self.chi, self.chi_pair)
        return float(np.abs(np.linalg.eigvals(self.back)).max())

    @property
    def weight_gradient(self) -> float:
        """E‖∂L/∂W‖² = weight_gradient · fan_in · E‖∂L/∂x_l‖², of one example, all maps of the block together."""
        return float(self.weight[0, 0]) * self._slope(0)

    @property
    def bias_gradient(self) -> float:
        """E‖∂L/∂b‖² = bias_gradient · E‖∂L/∂x_l‖², of one example, all maps of the block together."""
        return float(self.bias[0, 0]) * self._slope(0)

    def _of(self, row: int) -> float:
        carried = self.paths.carried if self.paths is not None else 0.0
        return (carried + float(self.back[row, row])) * self._slope(row)

    def _slope(self, row: int) -> float:
        return float(self.paths.slope[row].mean()) if self.paths is not None else 1.0


class Law(Protocol):
    """One kind of block. Laws are frozen dataclasses, so that equal ones are known to be equal."""

    def step(self, signal: Signal) -> Step:
        """What the block makes of a signal at its input."""
