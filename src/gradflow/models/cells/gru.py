"""The gated recurrent unit.

Shapes: B batch, T time, F features, G = 3·H, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import Several
from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.cells.chrono import check_chrono, chrono_bias
from gradflow.models.cells.recurrent_norms import Kind, step_norm


def gru(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    chrono: Several | None = None,
    recurrent_norm: Kind = "none",
) -> Cell:
    """h_t = z_t ⊙ h_{t−1} + (1 − z_t) ⊙ n_t with n_t = tanh(W_n x_t + b_n + r_t ⊙ (U_n h_{t−1} + b_hn)), where r and z
    are σ(W x_t + U h_{t−1} + b) (Cho et al. 2014).

    As in torch.nn.GRU, and through its fused kernel, the reset gate r acts after the product with U_n; in the paper it
    acts on h, before. In both z keeps; elsewhere it lets in.

    Args:
        chrono: T_max, in steps: b_z = log u with u ~ U[1, T_max − 1] (Tallec & Ollivier 2018, with the
            opposite sign, as their gate lets in); null for 0, with which half of a state is kept at every step.
        recurrent_norm: 'layer' or 'batch': of W x and of U h, for layer normalisation the two gates together and the
            candidate by itself (Ba et al. 2016, supplement), step by step; see `step_norm`.

    Raises:
        ValueError: for another activation than tanh, or chrono = 1.
    """
    brings_its_own("gru", activation)
    check_chrono(chrono)
    return GRU(features, width, chrono, recurrent_norm)


class GRU(Cell):
    """See `gru`. Weights, in the order r, z, n: input [G, F], recurrent [G, H], bias [G]; candidate_bias b_hn [H]."""

    def __init__(self, features: int, width: int, chrono: int | None, recurrent_norm: Kind) -> None:
        super().__init__(features, width)
        self.inputs = 3 * width
        self.chrono, self.recurrent_norm = chrono, recurrent_norm
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, width)
        self.bias, self.candidate_bias = zeros(self.inputs), zeros(width)
        self.input_norm, self.state_norm = (step_norm(recurrent_norm, 2 * width, width) for _ in range(2))

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            reset, update, from_input, from_state = self._parts(z_BG, state, time)
            candidate = torch.tanh(from_input + torch.sigmoid(reset) * (from_state + self.candidate_bias))
            return (candidate + torch.sigmoid(update) * (state[0] - candidate),)

        return linear(x_BTF, self.input_weight, self.bias if self.recurrent_norm == "none" else None), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        if self.recurrent_norm != "none":
            return None
        second = torch.cat([torch.zeros_like(self.bias[: 2 * self.width]), self.candidate_bias])
        weights = [self.input_weight, self.recurrent_weight, self.bias, second]
        train = torch.is_grad_enabled()  # without it cuDNN keeps nothing to go back with
        h_BTH, last_1BH = torch.gru(x_BTF, state[0][None], weights, True, 1, 0.0, train, False, True)
        return h_BTH, (last_1BH[0],)

    def leak(self, z_BG: Tensor, state: State, time: int) -> Tensor | None:
        return torch.sigmoid(self._parts(z_BG, state, time, count=False)[1])

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "gate", "map"))
        yield from gates(self.recurrent_weight, None, ("recurrent",) * 3)

    def reset(self, generator: Generator) -> None:
        if self.chrono is not None:
            chrono_bias(self.bias.detach().chunk(3)[1], self.chrono, generator)

    def _parts(
        self, z_BG: Tensor, state: State, time: int, count: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Before their non-linearities: reset gate, update gate, the candidate's part of the input and of the state."""
        z = self.input_norm(z_BG, time, self.bias, count).chunk(3, -1)
        u = self.state_norm(linear(state[0], self.recurrent_weight), time, None, count).chunk(3, -1)
        return z[0] + u[0], z[1] + u[1], z[2], u[2]
