"""The independently recurrent network of Li et al. 2018.

Shapes: B batch, T time, F features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import Positive
from gradflow.models.cell import Cell, Matrix, State, Step, gates, zeros
from gradflow.models.cells.elementwise import elementwise


def indrnn(features: int, width: int, activation: Callable[[], nn.Module], /, *, bound: Positive | None = 2.0) -> Cell:
    """h_t = φ(W x_t + u ⊙ h_{t−1} + b): each unit sees its own past alone (Li et al. 2018, section 3).

    The gradient of a unit goes back through (u φ′)^n, so that keeping |u| ≤ bound^(1/T) keeps it from growing by more
    than `bound` over T steps of a φ with |φ′| ≤ 1. Units mix from layer to layer; the paper uses ReLU
    (activation=relu) and six layers and more. u begins as U[0, 1], within the bound for every T.

    Args:
        bound: γ of |u| ≤ γ^(1/T), 2 as in the paper; T is the number of steps that the cell is given at once. As in
            the authors' code, u itself is clipped before each forward pass in training, so that none gets stuck
            beyond the bound. null for none.

    Raises:
        ValueError: if the activation is not elementwise.
    """
    return IndRNN(features, width, elementwise("indrnn", activation, width), bound)


class IndRNN(Cell):
    """See `indrnn`. Weights: input [H, F], recurrent [H], bias [H]."""

    def __init__(self, features: int, width: int, activation: nn.Module, bound: float | None = 2.0) -> None:
        super().__init__(features, width)
        self.activation, self.bound = activation, bound
        self.input_weight, self.recurrent_weight, self.bias = zeros(width, features), zeros(width), zeros(width)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        u: Tensor = self.recurrent_weight
        if self.bound is not None:
            limit = self.bound ** (1 / x_BTF.shape[1])
            if self.training:
                # .data: what an earlier forward pass of the same step has saved is within the bound already
                u.data.clamp_(-limit, limit)
            else:
                u = u.clamp(-limit, limit)

        def step(z_BH: Tensor, state: State, time: int) -> State:
            return (self.activation(torch.addcmul(z_BH, u, state[0])),)

        return linear(x_BTF, self.input_weight, self.bias), step

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("map",))

    def reset(self, generator: Generator) -> None:
        with torch.no_grad():
            self.recurrent_weight.uniform_(0, 1, generator=generator)
