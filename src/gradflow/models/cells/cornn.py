"""The coupled oscillatory network of Rusch & Mishra 2021.

Shapes: B batch, T time, F features, G pre-activations, H oscillators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import NonNegative, Positive
from gradflow.models.cell import Cell, Matrix, State, Step, gates, zeros
from gradflow.models.parts import units_in


def cornn(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    dt: Positive = 0.042,
    gamma: NonNegative = 2.7,
    epsilon: NonNegative = 4.7,
    damping: Literal["explicit", "implicit"] = "explicit",
) -> Cell:
    """Oscillators y″ = φ(W y + 𝒲 y′ + V x + b) − γ y − ε y′, driven by the inputs and by each other (Rusch & Mishra
    2021), one implicit-explicit step of length Δt per input: first the velocity, then the position with its result:

        v_t = v_{t−1} + Δt (φ(W h_{t−1} + 𝒲 v_{t−1} + V x_t + b) − γ h_{t−1} − ε v_{t−1})
        h_t = h_{t−1} + Δt v_t

    The output is the position h, the paper's y. φ is the network's activation, tanh in the paper.

    Args:
        dt: Δt. This and the next two are the authors' for sequential MNIST; for permuted MNIST they take 0.076, 0.4
            and 8, for the adding problem 0.06, 66 and 15.
        gamma: γ, the oscillators' frequency, squared.
        epsilon: ε, their damping.
        damping: by which velocity: 'explicit', the old one, as in the authors' code; 'implicit', the one that is being
            computed, under which γ|h_t|² + |v_t|² ≤ t Δt H/ε for |φ| ≤ 1 and Δt ≤ ε/γ: no state explodes.
    """
    return CoRNN(features, width, activation(), dt, gamma, epsilon, damping)


class CoRNN(Cell):
    """See `cornn`. Weights: input [G, F], from positions [G, H], from velocities [G, H], bias [G]; G = H but for gated
    activations."""

    state_names: ClassVar[tuple[str, ...]] = ("h", "v")

    def __init__(
        self,
        features: int,
        width: int,
        activation: nn.Module,
        dt: float,
        gamma: float,
        epsilon: float,
        damping: Literal["explicit", "implicit"] = "explicit",
    ) -> None:
        super().__init__(features, width)
        self.inputs = units_in(activation, width)
        self.activation, self.dt, self.gamma, self.epsilon, self.damping = activation, dt, gamma, epsilon, damping
        self.input_weight, self.bias = zeros(self.inputs, features), zeros(self.inputs)
        self.position_weight, self.velocity_weight = zeros(self.inputs, width), zeros(self.inputs, width)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        from_h, from_v = self.position_weight.T, self.velocity_weight.T
        dt, implicit = self.dt, self.damping == "implicit"
        kept, shrunk = (1.0, 1 / (1 + dt * self.epsilon)) if implicit else (1 - dt * self.epsilon, 1.0)

        def step(z_BG: Tensor, state: State, time: int) -> State:
            h, v = state
            force = self.activation(torch.addmm(torch.addmm(z_BG, h, from_h), v, from_v))
            force = torch.add(force, h, alpha=-self.gamma)
            v = shrunk * torch.add(kept * v, force, alpha=dt)
            return torch.add(h, v, alpha=dt), v

        return linear(x_BTF, self.input_weight, self.bias), step

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, self.bias, ("map",))
        yield from gates(self.position_weight, None, ("recurrent",))
        yield from gates(self.velocity_weight, None, ("recurrent",))
