"""The antisymmetric recurrent network of Chang et al. 2019.

Shapes: B batch, T time, F features, G pre-activations of an input, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import NonNegative, Positive
from gradflow.models.cell import Cell, Matrix, State, Step, gates, zeros
from gradflow.models.cells.elementwise import elementwise


def antisymmetric_rnn(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    epsilon: Positive = 0.01,
    gamma: NonNegative = 0.01,
    gated: bool = False,
) -> Cell:
    """h_t = h_{t−1} + ε φ((W − Wᵀ − γI) h_{t−1} + V x_t + b) (Chang et al. 2019): forward Euler on an ordinary
    differential equation whose Jacobian has eigenvalues close to the imaginary axis, so that its solutions neither grow
    nor die out; φ is the network's activation, tanh in the paper.

    W − Wᵀ is antisymmetric in floating point too, whatever happens to W, of whose H² numbers H(H−1)/2 count.

    Args:
        epsilon: ε, the step's length; a step is stable where |1 + ελ| ≤ 1 for the Jacobian's eigenvalues λ. 0.01 is
            usual in other implementations; T·ε is the time that the equation is given, so shorter sequences may want
            more.
        gamma: γ, the diffusion that makes up for the Euler step's own growth, √(1 + ε²λ²) for an imaginary λ; 0.01 is
            usual.
        gated: whether a gate σ((W − Wᵀ − γI) h_{t−1} + V_z x_t + b_z), of the same recurrent matrix, scales each unit's
            step.

    Raises:
        ValueError: if the activation is not elementwise.
    """
    return AntisymmetricRNN(features, width, elementwise("antisymmetric_rnn", activation, width), epsilon, gamma, gated)


class AntisymmetricRNN(Cell):
    """See `antisymmetric_rnn`. Weights: input [G, F], recurrent W [H, H], bias [G]; G = H, or 2·H, the gate first."""

    def __init__(
        self, features: int, width: int, activation: nn.Module, epsilon: float, gamma: float, gated: bool
    ) -> None:
        super().__init__(features, width)
        self.inputs = 2 * width if gated else width
        self.activation, self.epsilon, self.gamma, self.gated = activation, epsilon, gamma, gated
        self.input_weight, self.bias = zeros(self.inputs, features), zeros(self.inputs)
        self.recurrent_weight = zeros(width, width)

    def matrix(self) -> Tensor:
        """W − Wᵀ − γI, [H, H]."""
        w = self.recurrent_weight
        return w - w.T - self.gamma * torch.eye(self.width, dtype=w.dtype, device=w.device)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        matrix = self.matrix()
        transposed = matrix.T

        def step(z_BG: Tensor, state: State, time: int) -> State:
            h = state[0]
            if not self.gated:
                return (torch.add(h, self.activation(torch.addmm(z_BG, h, transposed)), alpha=self.epsilon),)
            back = linear(h, matrix)
            gate, candidate = z_BG.chunk(2, -1)
            moved = torch.sigmoid(gate + back) * self.activation(candidate + back)
            return (torch.add(h, moved, alpha=self.epsilon),)

        return linear(x_BTF, self.input_weight, self.bias), step

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("gate", "map") if self.gated else ("map",))
        yield from gates(self.recurrent_weight, None, ("recurrent",))
