"""The IRNN: what it begins as, and that nothing else fills its weights."""

from __future__ import annotations

import pytest
import torch
from by_hand import drawn
from torch import nn

from gradflow.models import activations, initializers
from gradflow.models.cells.irnn import irnn
from gradflow.models.initialize import initialize
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 3, 40, 200, 300


def make(activation=activations.tanh, **keys) -> Recurrence:
    layer = Recurrence(irnn(F, H, activation, **keys)).double()
    initialize(
        layer, initializers.glorot_uniform, stream(0, "init"), activation, recurrent_init=initializers.orthogonal
    )
    return layer


@pytest.mark.parametrize(
    ("keys", "std", "gain"), [({}, 0.001, 1.0), ({"input_std": 0.1, "recurrent_gain": 0.9}, 0.1, 0.9)]
)
def test_begins_as_in_the_paper(keys, std, gain):
    """U = gain · I exactly, b = 0, W Gaussian; neither init nor recurrent_init reaches them."""
    cell = make(**keys).cell
    assert torch.equal(cell.recurrent_weight, gain * torch.eye(H, dtype=torch.float64))
    assert not cell.bias.any()
    z = cell.input_weight.detach() / std
    assert abs(float(z.mean())) < 5 / z.numel() ** 0.5
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / z.numel()) ** 0.5
    assert abs(float((z**4).mean()) - 3) < 5 * (96 / z.numel()) ** 0.5


def test_without_input_a_state_and_its_gradient_stay():
    cell = make().cell
    start = drawn(B, H, name="h").abs().requires_grad_()
    h, (last,) = cell.fast(torch.zeros(B, T, F, dtype=torch.float64), (start,))
    assert torch.equal(last, start)
    assert torch.equal(torch.autograd.grad(last.sum(), start)[0], torch.ones_like(start))
    assert torch.equal(h, start[:, None].expand_as(h))


def test_is_a_relu_network_of_torch():
    layer = make(input_std=0.3)
    with torch.no_grad():
        layer.cell.recurrent_weight.mul_(0.1).add_(0.02 * drawn(H, H, name="U"))
    theirs = nn.RNN(F, H, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.cell.input_weight)
        theirs.weight_hh_l0.copy_(layer.cell.recurrent_weight)
        theirs.bias_ih_l0.copy_(layer.cell.bias)
        theirs.bias_hh_l0.zero_()
    x = drawn(B, T, F)
    torch.testing.assert_close(layer(x), theirs(x)[0], rtol=1e-12, atol=1e-12)


def test_activation():
    """ReLU is its own; tanh stands for the recurrent models' default."""
    assert make(activations.tanh).cell.activation.phi is torch.relu
    with pytest.raises(ValueError, match="cell=irnn has its own non-linearities"):
        irnn(F, H, activations.sigmoid)
