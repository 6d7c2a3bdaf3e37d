"""The identity recurrent network of Le, Jaitly & Hinton 2015."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, nn

from gradflow.checked import Positive
from gradflow.models.activations import relu
from gradflow.models.cell import Cell, Matrix, brings_its_own
from gradflow.models.cells.rnn import RNN


def irnn(
    features: int,
    width: int,
    activation: Callable[[], nn.Module],
    /,
    *,
    input_std: Positive = 0.001,
    recurrent_gain: Positive = 1.0,
) -> Cell:
    """h_t = max(0, W x_t + U h_{t−1} + b) that begins with U = I, b = 0 and small Gaussian W (Le et al. 2015).

    Without input a state, and the gradient through an active unit, stays as it is for ever. The initialisation is what
    defines the cell, so that `init` and `recurrent_init` do not reach its weights; for other ones use cell=rnn with
    activation=relu.

    Args:
        input_std: standard deviation of W; the paper's N(0, 0.001), of which 0.001 is taken for the deviation.
        recurrent_gain: U = gain · I; below 1 the state leaks away by that factor per step.

    Raises:
        ValueError: for another activation than tanh, which is the recurrent models' default and stands for its ReLU.
    """
    brings_its_own("irnn", activation)
    return IRNN(features, width, input_std, recurrent_gain)


class IRNN(RNN):
    """See `irnn`."""

    def __init__(self, features: int, width: int, input_std: float, recurrent_gain: float) -> None:
        super().__init__(features, width, relu())
        self.input_std, self.recurrent_gain = input_std, recurrent_gain

    def matrices(self) -> Iterator[Matrix]:
        return iter(())

    def reset(self, generator: Generator) -> None:
        with torch.no_grad():
            self.input_weight.normal_(0, self.input_std, generator=generator)
            self.recurrent_weight.zero_().fill_diagonal_(self.recurrent_gain)
