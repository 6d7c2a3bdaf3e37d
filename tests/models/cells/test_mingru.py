"""minGRU against the paper's equations."""

from __future__ import annotations

import pytest
import torch
from by_hand import WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.mingru import mingru


def loop(cell, x, state):
    (h,) = state
    w, b = cell.input_weight, cell.bias
    out = []
    for t in range(x.shape[1]):
        z = torch.sigmoid(x[:, t] @ w[:WIDTH].T + b[:WIDTH])
        h = (1 - z) * h + z * (x[:, t] @ w[WIDTH:].T + b[WIDTH:])
        out.append(h)
    return torch.stack(out, 1)


def test_its_equations_and_their_gradients():
    agrees_with(loop, moved(mingru))


def test_what_every_cell_owes():
    is_a_cell(mingru)


def test_the_leak_is_what_a_step_keeps():
    """∂h_t/∂h_{t−1} is diagonal, and its diagonal is the leak."""
    cell = moved(mingru)
    x = sequence(5)
    z, step = cell.begin(x)
    state = (torch.randn(2, WIDTH, dtype=torch.float64, requires_grad=True),)
    (kept,) = torch.autograd.grad(step(z[:, 2], state, 2)[0].sum(), state[0])
    torch.testing.assert_close(cell.leak(z[:, 2], state, 2), kept)
    assert ((kept > 0) & (kept < 1)).all()


@pytest.mark.parametrize("forget_bias", [0.0, 3.0])
def test_the_share_that_is_kept_at_the_start(forget_bias):
    cell = begun(mingru, forget_bias=forget_bias).double()
    z, _ = cell.begin(torch.zeros(1, 1, 3, dtype=torch.float64))
    share = torch.sigmoid(torch.tensor(forget_bias, dtype=torch.float64))
    torch.testing.assert_close(cell.leak(z[:, 0], (), 0), share.expand(1, WIDTH))


def test_a_gate_that_is_all_but_closed_or_open_keeps_its_gradient():
    """1 − z is computed without cancellation: in float32 a gate of σ(−20) opens by e⁻²⁰ and not by 0."""
    cell = mingru(3, WIDTH, activations.tanh)
    with torch.no_grad():
        cell.bias[:WIDTH] = 20.0
    z, _ = cell.begin(torch.zeros(1, 1, 3))
    torch.testing.assert_close(cell.leak(z[:, 0], (), 0), torch.full((1, WIDTH), 2.0611536e-9))


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match=r"cell=mingru has its own non-linearities"):
        mingru(3, 4, activations.relu)
