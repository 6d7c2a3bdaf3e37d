"""The minimal gated unit.

Shapes: B batch, T time, F features, G = 2·H, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.cells.recurrent_norms import Kind, step_norm


def minimal_gated_unit(
    features: int, width: int, activation: Callable[[], nn.Module], /, *, recurrent_norm: Kind = "none"
) -> Cell:
    """h_t = (1 − f_t) ⊙ h_{t−1} + f_t ⊙ tanh(W_h x_t + U_h (f_t ⊙ h_{t−1}) + b_h), where f_t is
    σ(W_f x_t + U_f h_{t−1} + b_f): a GRU whose one gate both resets and updates (Zhou et al. 2016).

    The gate is called a forget gate, but what a unit keeps of its state is 1 − f.

    Args:
        recurrent_norm: 'layer' or 'batch': of each W x and each product with U, gate and candidate by themselves, step
            by step; see `step_norm`.

    Raises:
        ValueError: for another activation than tanh.
    """
    brings_its_own("minimal_gated_unit", activation)
    return MinimalGatedUnit(features, width, recurrent_norm)


class MinimalGatedUnit(Cell):
    """See `minimal_gated_unit`. Weights, gate first, then candidate: input [G, F], recurrent [G, H], bias [G]."""

    def __init__(self, features: int, width: int, recurrent_norm: Kind) -> None:
        super().__init__(features, width)
        self.inputs = 2 * width
        self.recurrent_norm = recurrent_norm
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, width)
        self.bias = zeros(self.inputs)
        self.input_norm = step_norm(recurrent_norm, width, width)
        self.gate_norm, self.candidate_norm = (step_norm(recurrent_norm, width) for _ in range(2))

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            h = state[0]
            f, from_input = self._gate(z_BG, state, time)
            product = linear(f * h, self.recurrent_weight[self.width :])
            candidate = torch.tanh(from_input + self.candidate_norm(product, time))
            return (h + f * (candidate - h),)

        return linear(x_BTF, self.input_weight, self.bias if self.recurrent_norm == "none" else None), step

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        return 1 - self._gate(z_BG, state, time, count=False)[0]

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "map"))
        yield from gates(self.recurrent_weight, None, ("recurrent",) * 2)

    def _gate(self, z_BG: Tensor, state: State, time: int, count: bool = True) -> tuple[Tensor, Tensor]:
        """f, and the input's part of the candidate."""
        z_gate, z_candidate = self.input_norm(z_BG, time, self.bias, count).chunk(2, -1)
        product = linear(state[0], self.recurrent_weight[: self.width])
        return torch.sigmoid(z_gate + self.gate_norm(product, time, None, count)), z_candidate
