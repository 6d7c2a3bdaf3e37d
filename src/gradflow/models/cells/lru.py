"""The linear recurrent unit of Orvieto et al. 2023.

Shapes: B batch, T time, F features, N complex states, G pre-activations of the output, H units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import BelowOne, Positive, Several, Share
from gradflow.models.cell import Cell, Matrix, State, Step, zeros
from gradflow.models.parts import units_in
from gradflow.models.scan import scan


def lru(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    state_size: Several | None = None,
    r_min: BelowOne = 0.0,
    r_max: Share = 1.0,
    max_phase: Positive = 2 * math.pi,
) -> Cell:
    """h_t = λ ⊙ h_{t−1} + γ ⊙ B x_t with N complex states, λ = exp(−e^ν + i e^θ), and the output φ(Re(C h_t) + D x_t)
    (Orvieto et al. 2023): a linear recurrence whose |λ| < 1 whatever ν is, so that it can be begun as close to 1 as one
    likes without exploding.

    λ begins uniformly on the ring r_min ≤ |λ| ≤ r_max (lemma 2), and γ, which is learnt, at √(1 − |λ|²), which makes up
    for the growth of a state under white noise, E|h_∞|² = E|B x|²/(1 − |λ|²) (proposition 3). φ is the network's
    activation. `init` fills the real and the imaginary part of B and of C; those of B are then divided by √2, so that
    E|B x|² is what it would be for a real matrix: with init=lecun_normal all is as in the paper. D is a vector where
    there are as many features as pre-activations, from N(0, 1), and a matrix elsewhere, which `init` fills.

    Args:
        state_size: N; null for as many as units.
        r_min, r_max: of the ring at the start. The paper's long-range tasks want r_min up to 0.99 or so.
        max_phase: largest angle of λ at the start, in radians; 2π for the whole ring. Less makes for slower
            oscillations, which the longest tasks want.

    Raises:
        ValueError: if the ring has no width.
    """
    if r_max < r_min or r_max == 0:
        raise ValueError(
            f"cell.r_min={r_min} and cell.r_max={r_max} leave no ring for the eigenvalues: give 0 ≤ r_min ≤ r_max ≤ 1 "
            "with r_max > 0"
        )
    return LRU(features, width, activation(), state_size or width, r_min, r_max, max_phase)


class LRU(Cell):
    """See `lru`. Real parameters: ν, θ and ln γ [N]; input [N, 2, F] and output [G, N, 2], whose axes of 2 are real and
    imaginary part; D [G] or [G, F].

    The state is complex, [B, N].
    """

    linear: ClassVar[bool] = True

    def __init__(
        self,
        features: int,
        width: int,
        activation: nn.Module,
        state_size: int,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__(features, width)
        self.activation, self.state_size, self.ring, self.max_phase = activation, state_size, (r_min, r_max), max_phase
        self.inputs = 2 * state_size
        units = units_in(activation, width)
        self.decay, self.phase, self.gain = zeros(state_size), zeros(state_size), zeros(state_size)
        self.input_weight, self.output_weight = zeros(state_size, 2, features), zeros(units, state_size, 2)
        self.feedthrough = zeros(units) if units == features else zeros(units, features)

    def eigenvalues(self) -> Tensor:
        """λ, complex [N]."""
        return torch.exp(torch.complex(-self.decay.exp(), self.phase.exp()))

    def start(self, x_BTF: Tensor) -> State:
        return (x_BTF.new_zeros(len(x_BTF), self.state_size, dtype=self.gain.dtype.to_complex()),)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        eigenvalues = self.eigenvalues()

        def step(z_BN: Tensor, state: State, time: int) -> State:
            return (torch.addcmul(z_BN, eigenvalues, state[0]),)

        return self._drive(x_BTF), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        h_BTN = scan(self.eigenvalues(), self._drive(x_BTF), state[0])
        return h_BTN, (h_BTN[:, -1],)

    def read(self, h_BTH: Tensor, x_BTF: Tensor) -> Tensor:
        parts = torch.view_as_real(h_BTH).flatten(-2)
        conjugate = self.output_weight * self.output_weight.new_tensor([1.0, -1.0])
        passed = linear(x_BTF, self.feedthrough) if self.feedthrough.ndim == 2 else self.feedthrough * x_BTF
        out: Tensor = self.activation(linear(parts, conjugate.flatten(1)) + passed)
        return out

    def matrices(self) -> Iterator[Matrix]:
        for part in (*self.input_weight.detach().unbind(1), *self.output_weight.detach().unbind(2)):
            yield Matrix(part, "map")
        if self.feedthrough.ndim == 2:
            yield Matrix(self.feedthrough.detach(), "map")

    def reset(self, generator: Generator) -> None:
        low, high = self.ring
        area, turn = torch.rand(2, self.state_size, generator=generator, dtype=torch.float64).clamp_(min=2**-53)
        decay = -0.5 * torch.log(area * (high**2 - low**2) + low**2)
        with torch.no_grad():
            self.decay.copy_(decay.log())
            self.phase.copy_((self.max_phase * turn).log())
            self.gain.copy_(0.5 * torch.log(-torch.expm1(-2 * decay)))
            self.input_weight.div_(math.sqrt(2))
            if self.feedthrough.ndim == 1:
                self.feedthrough.normal_(generator=generator)

    def _drive(self, x_BTF: Tensor) -> Tensor:
        """γ ⊙ B x, complex [B, T, N]."""
        weight = self.gain.exp()[:, None, None] * self.input_weight
        parts = linear(x_BTF, weight.flatten(0, 1)).to(self.gain.dtype)
        return torch.view_as_complex(parts.view(*parts.shape[:-1], self.state_size, 2))
