"""The neuron with a fixed loop with which latching a bit was first studied.

Shapes: B batch, T time, F features, H neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gradflow.checked import Positive
from gradflow.models.cell import Cell, Matrix, State, Step, brings_its_own, gates, zeros


def latch_neuron(features: int, width: int, activation: Callable[[], nn.Module], /, *, loop: Positive = 1.25) -> Cell:
    """h_t = tanh(w h_{t−1} + V e_t + n_t), where n_t, the last feature, comes in as it is and e_t are all others; V is
    trained, w is not (Bengio, Simard & Frasconi 1994, section II and figure 2).

    With `task=latch_level` e_t is one-hot in class and step, so that V holds the trained inputs h_1 … h_L of either
    class of the paper, and n_t is the noise. The width counts neurons that do not see each other; the paper has one.

    For w > 1 and no input a neuron has two stable states, ±x* with x* = tanh(w x*). Whoever pushes it from one to the
    other needs inputs above a threshold of its own; what is remembered reliably has a gradient that shrinks by
    w (1 − h²) < 1 at every step.

    Args:
        loop: w; 1.25 as in figure 2(b): x* = 0.710, and w (1 − x*²) = 0.62.

    Raises:
        ValueError: for another activation than tanh, or if there is no second feature.
    """
    brings_its_own("latch_neuron", activation)
    if features < 2:
        raise ValueError(
            "cell=latch_neuron takes its last feature as it is and has trained weights for all others, but there is "
            "only one: use task=latch_level, or cell=rnn"
        )
    return LatchNeuron(features, width, loop)


class LatchNeuron(Cell):
    """See `latch_neuron`. Weights: input V [H, F − 1].

    Args:
        loop: w.
    """

    def __init__(self, features: int, width: int, loop: float) -> None:
        super().__init__(features, width)
        self.loop = loop
        self.input_weight = zeros(width, features - 1)

    def begin(self, x_BTF: Tensor) -> tuple[Tensor, Step]:
        def step(z_BH: Tensor, state: State, time: int) -> State:
            return (torch.tanh(z_BH + self.loop * state[0]),)

        return self._driven(x_BTF), step

    def fast(self, x_BTF: Tensor, state: State) -> tuple[Tensor, State] | None:
        eye = torch.eye(self.width, dtype=x_BTF.dtype, device=x_BTF.device)
        nothing = torch.zeros_like(eye[0])
        weights = [eye, self.loop * eye, nothing, nothing]
        train = torch.is_grad_enabled()  # without it cuDNN keeps nothing to go back with
        h_BTH, last_1BH = torch.rnn_tanh(self._driven(x_BTF), state[0][None], weights, True, 1, 0.0, train, False, True)
        return h_BTH, (last_1BH[0],)

    def matrices(self) -> Iterator[Matrix]:
        yield from gates(self.input_weight, None, ("map",))

    def _driven(self, x_BTF: Tensor) -> Tensor:
        return linear(x_BTF[..., :-1], self.input_weight) + x_BTF[..., -1:]
