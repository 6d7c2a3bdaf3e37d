"""An LSTM with nothing but a forget gate.

Shapes: B batch, T time, F features, G = 2·H, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import NonNegative, Several
from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.cells.chrono import check_chrono, chrono_bias
from gradflow.models.cells.recurrent_norms import Kind, step_norm


def janet(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    beta: NonNegative = 1.0,
    chrono: Several | None = None,
    recurrent_norm: Kind = "none",
) -> Cell:
    """h_t = σ(s_t) ⊙ h_{t−1} + (1 − σ(s_t − β)) ⊙ tanh(W_c x_t + U_c h_{t−1} + b_c), s_t = W_f x_t + U_f h_{t−1} + b_f
    (van der Westhuizen & Lasenby 2018).

    Args:
        beta: β; with the paper's 1 slightly more is let in than is forgotten, with 0 the two sum to 1.
        chrono: T_max, in steps: b_f = log u with u ~ U[1, T_max − 1], as in the paper (from Tallec & Ollivier 2018);
            null for 1, as in `lstm`.
        recurrent_norm: 'layer' or 'batch': of W x and of U h, gate and candidate together, step by step; see
            `step_norm`.

    Raises:
        ValueError: for another activation than tanh, or chrono = 1.
    """
    brings_its_own("janet", activation)
    check_chrono(chrono)
    return JANET(features, width, beta, chrono, recurrent_norm)


class JANET(Cell):
    """See `janet`. Weights, gate first, then candidate: input [G, F], recurrent [G, H], bias [G]."""

    def __init__(self, features: int, width: int, beta: float, chrono: int | None, recurrent_norm: Kind) -> None:
        super().__init__(features, width)
        self.inputs = 2 * width
        self.beta, self.chrono, self.recurrent_norm = beta, chrono, recurrent_norm
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, width)
        self.bias = zeros(self.inputs)
        self.input_norm, self.state_norm = (step_norm(recurrent_norm, self.inputs) for _ in range(2))

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            s, candidate = self._parts(z_BG, state, time)
            return (torch.sigmoid(s) * state[0] + torch.sigmoid(self.beta - s) * torch.tanh(candidate),)

        return linear(x_BTF, self.input_weight, self.bias if self.recurrent_norm == "none" else None), step

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        return torch.sigmoid(self._parts(z_BG, state, time, count=False)[0])

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "map"))
        yield from gates(self.recurrent_weight, None, ("recurrent",) * 2)

    def reset(self, generator: Generator) -> None:
        bias = self.bias.detach()[: self.width]
        if self.chrono is None:
            bias.fill_(1.0)
        else:
            chrono_bias(bias, self.chrono, generator)

    def _parts(self, z_BG: Tensor, state: State, time: int, count: bool = True) -> tuple[Tensor, Tensor]:
        """s and the candidate, before their non-linearities."""
        u_BG = linear(state[0], self.recurrent_weight)
        sums = self.input_norm(z_BG, time, self.bias, count) + self.state_norm(u_BG, time, None, count)
        s, candidate = sums.chunk(2, -1)
        return s, candidate
