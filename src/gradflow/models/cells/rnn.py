"""The simple recurrent network of Elman 1990.

Shapes: B batch, T time, F features, G pre-activation units, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.models.cell import Cell, Matrix, State, Step, gates, phi, zeros
from gradflow.models.cells.recurrent_norms import Kind, step_norm
from gradflow.models.parts import units_in


def rnn(features: int, width: int, activation: Callable[[], nn.Module], /, *, recurrent_norm: Kind = "none") -> Cell:
    """h_t = φ(W x_t + U h_{t−1} + b) with the network's activation φ (Elman 1990; with tanh, ReLU or sigmoid usually).

    The gradient goes back through a product of diag(φ′) U: it vanishes where σ_max(U) < 1/γ, and can explode only where
    σ_max(U) > 1/γ, with γ = max |φ′|: 1 for tanh and ReLU, ¼ for the sigmoid (Pascanu, Mikolov & Bengio 2013,
    section 2.1). With tanh and ReLU a whole sequence goes through torch's fused kernel.

    Args:
        recurrent_norm: 'layer' or 'batch': h_t = φ(N(W x_t) + N(U h_{t−1}) + b), step by step; see `step_norm`.
    """
    return RNN(features, width, activation(), recurrent_norm)


class RNN(Cell):
    """See `rnn`. Weights: input [G, F], recurrent [G, H], bias [G]; G = H but for gated activations."""

    def __init__(self, features: int, width: int, activation: nn.Module, recurrent_norm: Kind = "none") -> None:
        super().__init__(features, width)
        self.inputs = units_in(activation, width)
        self.activation = activation
        self.recurrent_norm = recurrent_norm
        self.input_weight, self.recurrent_weight = zeros(self.inputs, features), zeros(self.inputs, width)
        self.bias = zeros(self.inputs)
        self.input_norm, self.state_norm = (step_norm(recurrent_norm, self.inputs) for _ in range(2))

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BG: Tensor, state: State, time: int) -> State:
            u_BG = linear(state[0], self.recurrent_weight)
            return (self.activation(self.input_norm(z_BG, time, self.bias) + self.state_norm(u_BG, time)),)

        return linear(x_BTF, self.input_weight, self.bias if self.recurrent_norm == "none" else None), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        kernel = _kernel(self.activation)
        if kernel is None or self.recurrent_norm != "none":
            return None
        weights = [self.input_weight, self.recurrent_weight, self.bias, torch.zeros_like(self.bias)]
        run = torch.rnn_tanh if kernel == "tanh" else torch.rnn_relu
        train = torch.is_grad_enabled()  # without it cuDNN keeps nothing to go back with
        h_BTH, last_1BH = run(x_BTF, state[0][None], weights, True, 1, 0.0, train, False, True)
        return h_BTH, (last_1BH[0],)

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("map",))
        yield from gates(self.recurrent_weight, None, ("recurrent",))


def _kernel(activation: nn.Module) -> Literal["tanh", "relu"] | None:
    """torch's kernel for an activation, if it has one."""
    function = phi(activation)
    if function is torch.tanh:
        return "tanh"
    return "relu" if function is torch.relu else None
