"""The minimal long short-term memory of Feng et al. 2024.

Shapes: B batch, T time, F features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear, logsigmoid

from gradflow.models.cell import Cell, Matrix, brings_its_own, gates, zeros
from gradflow.models.cells.mingru import LinearGated


def minlstm(features: int, width: int, activation: Callable[[], nn.Module], /, *, forget_bias: float = 0.0) -> Cell:
    """h_t = f′_t ⊙ h_{t−1} + i′_t ⊙ h̃_t with f′ = f/(f + i), i′ = i/(f + i), f = σ(W_f x + b_f), i = σ(W_i x + b_i) and
    h̃ = W_h x + b_h (Feng et al. 2024, minLSTM): an LSTM whose gates and candidate see the inputs alone, and whose gates
    sum to 1, so that the state's scale does not depend on time.

    The candidate is linear, as in the paper's simple version; its other one, in logarithms, keeps it positive instead.

    Args:
        forget_bias: b_f = −b_i at the start: a unit keeps a share σ(b_f)/(σ(b_f) + σ(−b_f)) = σ(b_f) of its memory at
            every step; 0 for half, 5 for 0.993, whose gradient outlives hundreds of steps.

    Raises:
        ValueError: if another activation is asked for: there is none.
    """
    brings_its_own("minlstm", activation)
    return MinLSTM(features, width, forget_bias)


class MinLSTM(LinearGated):
    """See `minlstm`. Weights: [3·H, F] and [3·H], of the gates f and i and of the candidate."""

    def __init__(self, features: int, width: int, forget_bias: float = 0.0) -> None:
        super().__init__(features, width)
        self.forget_bias = forget_bias
        self.input_weight, self.bias = zeros(3 * width, features), zeros(3 * width)

    def gated(self, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
        forget, put, candidate = linear(x_BTF, self.input_weight, self.bias).chunk(3, -1)
        # f/(f + i) = σ(ln f − ln i), which is also defined where both gates underflow
        odds = logsigmoid(forget) - logsigmoid(put)
        return torch.sigmoid(odds), torch.sigmoid(-odds) * candidate

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "gate", "map"))

    def reset(self, generator: Generator) -> None:
        with torch.no_grad():
            self.bias[: self.width] = self.forget_bias
            self.bias[self.width : 2 * self.width] = -self.forget_bias
