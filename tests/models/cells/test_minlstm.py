"""minLSTM against the paper's equations."""

from __future__ import annotations

import pytest
import torch
from by_hand import WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.minlstm import minlstm


def loop(cell, x, state):
    (h,) = state
    w, b = cell.input_weight.split(WIDTH), cell.bias.split(WIDTH)
    out = []
    for t in range(x.shape[1]):
        f = torch.sigmoid(x[:, t] @ w[0].T + b[0])
        i = torch.sigmoid(x[:, t] @ w[1].T + b[1])
        h = f / (f + i) * h + i / (f + i) * (x[:, t] @ w[2].T + b[2])
        out.append(h)
    return torch.stack(out, 1)


def test_its_equations_and_their_gradients():
    agrees_with(loop, moved(minlstm))


def test_what_every_cell_owes():
    is_a_cell(minlstm)


def test_the_leak_is_what_a_step_keeps():
    cell = moved(minlstm)
    x = sequence(5)
    z, step = cell.begin(x)
    state = (torch.randn(2, WIDTH, dtype=torch.float64, requires_grad=True),)
    (kept,) = torch.autograd.grad(step(z[:, 2], state, 2)[0].sum(), state[0])
    torch.testing.assert_close(cell.leak(z[:, 2], state, 2), kept)


@pytest.mark.parametrize("forget_bias", [0.0, 3.0])
def test_the_share_that_is_kept_at_the_start(forget_bias):
    cell = begun(minlstm, forget_bias=forget_bias).double()
    z, _ = cell.begin(torch.zeros(1, 1, 3, dtype=torch.float64))
    share = torch.sigmoid(torch.tensor(forget_bias, dtype=torch.float64))
    torch.testing.assert_close(cell.leak(z[:, 0], (), 0), share.expand(1, WIDTH))


def test_two_closed_gates_share_what_there_is():
    """f = i = e⁻²⁰⁰ in float32, where both are 0: still ½ and ½, with a derivative."""
    cell = minlstm(3, WIDTH, activations.tanh)
    with torch.no_grad():
        cell.bias[: 2 * WIDTH] = -200.0
    z, _ = cell.begin(torch.zeros(1, 1, 3))
    leak = cell.leak(z[:, 0], (), 0)
    torch.testing.assert_close(leak, torch.full((1, WIDTH), 0.5))
    leak.sum().backward()
    torch.testing.assert_close(cell.bias.grad[:WIDTH], torch.full((WIDTH,), 0.25))


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match=r"cell=minlstm has its own non-linearities"):
        minlstm(3, 4, activations.relu)
