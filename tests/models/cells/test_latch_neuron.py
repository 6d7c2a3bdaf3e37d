"""The neuron with a fixed loop against torch.nn.RNN with the same weights, and its two stable states."""

from __future__ import annotations

import math

import pytest
import torch
from by_hand import drawn, filled, gradients, is_a_cell
from torch import nn

from gradflow.models import activations
from gradflow.models.cells.latch_neuron import latch_neuron
from gradflow.models.recurrence import Recurrence

B, T, F, H = 3, 11, 4, 2


def test_is_a_cell():
    is_a_cell(latch_neuron)


@pytest.mark.parametrize("loop", [1.25, 0.5])
def test_is_a_diagonal_network_of_torch_with_an_input_that_comes_in_as_it_is(loop):
    """Outputs, and gradients with respect to inputs and V."""
    cell = filled(latch_neuron(F, H, activations.tanh, loop=loop).double())
    theirs = nn.RNN(F, H, batch_first=True, bias=False).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([cell.input_weight, torch.ones(H, 1, dtype=torch.float64)], 1))
        theirs.weight_hh_l0.copy_(loop * torch.eye(H))
    x = drawn(B, T, F).requires_grad_()
    out, expected = Recurrence(cell)(x), theirs(x)[0]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
    mine = gradients(out, x, cell.input_weight)
    other = gradients(expected, x, theirs.weight_ih_l0)
    torch.testing.assert_close(mine[0], other[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(mine[1], other[1][:, :-1], rtol=0, atol=1e-12)


def test_the_loop_is_not_trained():
    cell = latch_neuron(F, H, activations.tanh)
    assert [(name, tuple(p.shape)) for name, p in cell.named_parameters()] == [("input_weight", (H, F - 1))]


@pytest.mark.parametrize("sign", [-1, 1])
def test_two_stable_states(sign):
    """From ±0.1 without input to ±x* with x* = tanh(1.25 x*), by bisection 0.7104."""
    low, high = 0.1, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.tanh(1.25 * middle) > middle else (low, middle)
    cell = latch_neuron(2, 1, activations.tanh).double()
    h = torch.full((1, 1), 0.1 * sign, dtype=torch.float64)
    z, step = cell.begin(torch.zeros(1, 1, 2, dtype=torch.float64))
    for _ in range(200):
        (h,) = step(z[:, 0], (h,), 0)
    assert h.item() == pytest.approx(sign * low, abs=1e-12)
    assert low == pytest.approx(0.710, abs=1e-3)
    assert 1.25 * (1 - low**2) == pytest.approx(0.62, abs=0.005)


def test_one_feature_is_refused():
    with pytest.raises(ValueError) as caught:
        latch_neuron(1, 1, activations.tanh)
    assert str(caught.value) == (
        "cell=latch_neuron takes its last feature as it is and has trained weights for all others, but there is "
        "only one: use task=latch_level, or cell=rnn"
    )


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="cell=latch_neuron has its own non-linearities"):
        latch_neuron(F, H, activations.relu)
