"""The simple recurrent network against torch.nn.RNN and against its equation written out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from by_hand import drawn, gradients
from torch import nn

from gradflow.models import activations
from gradflow.models.cells.rnn import rnn
from gradflow.models.recurrence import Recurrence

B, T, F, H = 3, 11, 4, 5


@dataclass
class Looker:
    """Makes a layer go in segments, and changes nothing."""

    every: int

    def __call__(self, time, state):
        return state


def fill(module: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.4 * drawn(*parameter.shape, name=name))


def layer(activation, **keys) -> Recurrence:
    made = Recurrence(rnn(F, H, activation, **keys)).double()
    fill(made)
    return made


@pytest.mark.parametrize("every", [None, 1, 4], ids=["fast", "step by step", "segments"])
@pytest.mark.parametrize("kernel", ["tanh", "relu"])
def test_is_that_of_torch(kernel, every):
    """Outputs, and gradients with respect to inputs and every weight."""
    ours = layer(getattr(activations, kernel))
    ours.observer = Looker(every) if every else None
    theirs = nn.RNN(F, H, nonlinearity=kernel, batch_first=True).double()
    cell = ours.cell
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.input_weight)
        theirs.weight_hh_l0.copy_(cell.recurrent_weight)
        theirs.bias_ih_l0.copy_(cell.bias)
        theirs.bias_hh_l0.zero_()
    x = drawn(B, T, F).requires_grad_()
    out, expected = ours(x), theirs(x)[0]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    found = gradients(out, x, cell.input_weight, cell.recurrent_weight, cell.bias)
    wanted = gradients(expected, x, theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "crelu", "maxout", "prelu", "swiglu"])
def test_any_activation(name):
    """Those without a kernel, those that need more units than they give, and those with a parameter."""
    activation = getattr(activations, name)
    width = 6
    made = Recurrence(rnn(F, width, activation)).double()
    fill(made)
    cell, x, h = made.cell, drawn(B, T, F), torch.zeros(B, width, dtype=torch.float64)
    assert cell.fast(x, (h,)) is None
    phi = cell.activation
    expected = []
    for t in range(T):
        h = phi(x[:, t] @ cell.input_weight.T + h @ cell.recurrent_weight.T + cell.bias)
        expected.append(h)
    out = made(x)
    assert out.shape == (B, T, width)
    torch.testing.assert_close(out, torch.stack(expected, 1), rtol=1e-12, atol=1e-12)


def test_the_fused_kernel_is_differentiable_at_evaluation():
    made = layer(activations.tanh).eval()
    x = drawn(B, T, F).requires_grad_()
    evaluated = gradients(made(x), x)[0]
    torch.testing.assert_close(evaluated, gradients(made.train()(x), x)[0], rtol=0, atol=0)


def test_a_linear_network_multiplies_by_the_transposed_weight():
    """∂h_T/∂h_0 = U^T, by which the gradient's size follows the spectral radius."""
    made = layer(activations.linear)
    start = drawn(B, H, name="h").requires_grad_()
    z, step = made.cell.begin(torch.zeros(B, T, F, dtype=torch.float64))
    state = (start,)
    for t in range(T):
        state = step(z[:, t], state, t)
    found = torch.autograd.grad(state[0][0, 2], start)[0][0]
    power = torch.linalg.matrix_power(made.cell.recurrent_weight.detach(), T)
    torch.testing.assert_close(found, power[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_norm_inside_takes_no_kernel(norm):
    made = layer(activations.tanh, recurrent_norm=norm)
    assert made.cell.fast(drawn(B, T, F), (torch.zeros(B, H, dtype=torch.float64),)) is None
