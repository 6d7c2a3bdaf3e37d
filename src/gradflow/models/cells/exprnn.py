"""The exponential recurrent network of Lezcano-Casado & Martínez-Rubio 2019.

Shapes: B batch, T time, F features, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros
from gradflow.models.cells.elementwise import elementwise


def exprnn(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    nonlinearity: Literal["modrelu", "activation"] = "modrelu",
    start: Literal["cayley", "henaff"] = "cayley",
) -> Cell:
    """h_t = φ(exp(A) h_{t−1} + V x_t) with a skew-symmetric A, whose exponential is orthogonal however far it is
    trained: every singular value of the recurrent matrix is 1 (Lezcano-Casado & Martínez-Rubio 2019).

    A is stored as the H(H−1)/2 numbers above its diagonal, which `recurrent_init` does not reach: its own start is part
    of the cell. The authors train A with a tenth of the other weights' learning rate.

    Args:
        nonlinearity: φ: 'modrelu', sign(z)·max(|z| + b, 0) with b learnt from U[−0.01, 0.01], as in the paper; or the
            network's 'activation', which then has a bias of its own.
        start: of A, in blocks [[0, s], [−s, 0]] along its diagonal: 'henaff', s ~ U[−π, π] (Henaff, Szlam & LeCun
            2016); 'cayley', s = −√((1 − cos u)/(1 + cos u)) with u ~ U[0, π/2] (Helfrich, Willmott & Ye 2018), with
            which the authors train on MNIST's pixels; they take 'henaff' for copying.

    Raises:
        ValueError: if an activation is asked for beside modrelu, or one that is not elementwise.
    """
    if nonlinearity == "modrelu":
        brings_its_own("exprnn cell.nonlinearity=modrelu", activation)
        return ExpRNN(features, width, ModReLU(width), start)
    return ExpRNN(features, width, elementwise("exprnn", activation, width), start)


class ExpRNN(Cell):
    """See `exprnn`. Weights: input [H, F]; the numbers of A above its diagonal, row by row; a bias [H]."""

    def __init__(self, features: int, width: int, activation: nn.Module, begins: Literal["cayley", "henaff"]) -> None:
        super().__init__(features, width)
        self.activation, self.begins = activation, begins
        self.input_weight = zeros(width, features)
        self.skew = zeros(width * (width - 1) // 2)
        self.bias = None if isinstance(activation, ModReLU) else zeros(width)

    def matrix(self) -> Tensor:
        """exp(A), [H, H]."""
        rows, columns = torch.triu_indices(self.width, self.width, 1, device=self.skew.device)
        upper = self.skew.new_zeros(self.width, self.width).index_put((rows, columns), self.skew)
        matrix: Tensor = torch.linalg.matrix_exp(upper - upper.T)
        return matrix

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        transposed = self.matrix().T

        def step(z_BH: Tensor, state: State, time: int) -> State:
            return (self.activation(torch.addmm(z_BH, state[0], transposed)),)

        return linear(x_BTF, self.input_weight, self.bias), step

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("map",))

    def reset(self, generator: Generator) -> None:
        blocks = self.width // 2
        u = torch.rand(blocks, generator=generator, dtype=torch.float64)
        angles = math.pi * (2 * u - 1) if self.begins == "henaff" else -torch.tan(u * (math.pi / 4))
        a = torch.zeros(self.width, self.width, dtype=torch.float64)
        even = 2 * torch.arange(blocks)
        a[even, even + 1] = angles
        rows, columns = torch.triu_indices(self.width, self.width, 1)
        with torch.no_grad():
            self.skew.copy_(a[rows, columns])
            if isinstance(self.activation, ModReLU):
                self.activation.bias.uniform_(-0.01, 0.01, generator=generator)


class ModReLU(nn.Module):
    """sign(z)·max(|z| + b, 0) with one b per unit: Arjovsky, Shah & Bengio 2016's, for real numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = zeros(width)

    def forward(self, z_BH: Tensor) -> Tensor:
        return torch.sign(z_BH) * torch.relu(z_BH.abs() + self.bias)
