"""The minimal gated recurrent unit of Feng et al. 2024.

Shapes: B batch, T time, F features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.scan import scan


def mingru(features: int, width: int, activation: Callable[[], nn.Module], /, *, forget_bias: float = 0.0) -> Cell:
    """h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ h̃_t with z_t = σ(W_z x_t + b_z) and h̃_t = W_h x_t + b_h (minGRU of Feng et al.
    2024): a GRU whose gate and candidate see the inputs alone, so that the recurrence is linear and is scanned.

    The candidate is linear, as in the paper's simple version; its other one, in logarithms, keeps it positive instead.

    Args:
        forget_bias: −b_z at the start: a unit keeps a share σ(forget_bias) of its memory at every step; 0 for half, 5
            for 0.993, whose gradient outlives hundreds of steps.

    Raises:
        ValueError: if another activation is asked for: there is none.
    """
    brings_its_own("mingru", activation)
    return MinGRU(features, width, forget_bias)


class LinearGated(Cell):
    """h_t = a_t ⊙ h_{t−1} + b_t, where a_t, the share of its memory that a unit keeps, and b_t depend on inputs alone.

    Attributes:
        inputs: 2·H: what a step is given is a_t, then b_t.
    """

    linear: ClassVar[bool] = True

    def __init__(self, features: int, width: int) -> None:
        super().__init__(features, width)
        self.inputs = 2 * width

    def gated(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """a and b, both [B, T, H]."""
        raise NotImplementedError

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            share, addition = z_BG.chunk(2, -1)
            return (torch.addcmul(addition, share, state[0]),)

        return torch.cat(self.gated(x_BTF), -1), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        share, addition = self.gated(x_BTF)
        h_BTH = scan(share, addition, state[0])
        return h_BTH, (h_BTH[:, -1],)

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        return z_BG.chunk(2, -1)[0]


class MinGRU(LinearGated):
    """See `mingru`. Weights: [2·H, F] and [2·H], of the gate z and of the candidate."""

    def __init__(self, features: int, width: int, forget_bias: float = 0.0) -> None:
        super().__init__(features, width)
        self.forget_bias = forget_bias
        self.input_weight, self.bias = zeros(2 * width, features), zeros(2 * width)

    def gated(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = linear(x_BTF, self.input_weight, self.bias).chunk(2, -1)
        # 1 − σ(g) = σ(−g), whose rounding error is relative to itself
        return torch.sigmoid(-gate), torch.sigmoid(gate) * candidate

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "map"))

    def reset(self, generator: Generator) -> None:
        with torch.no_grad():
            self.bias[: self.width] = -self.forget_bias
