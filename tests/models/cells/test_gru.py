"""The gated recurrent unit against torch.nn.GRU."""

from __future__ import annotations

import pytest
import torch
from by_hand import Looking, drawn, filled, gradients
from torch import nn

from gradflow.models import activations
from gradflow.models.cells.gru import gru
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 3, 11, 4, 5


def make(**keys):
    cell = gru(F, H, activations.tanh, **keys).double()
    return filled(cell)


@pytest.mark.parametrize("every", [None, 1, 4], ids=["fast", "step by step", "segments"])
def test_is_that_of_torch(every):
    """Outputs, and gradients with respect to inputs and every weight; torch's second biases of r and z add to ours."""
    cell = make()
    ours = Recurrence(cell)
    ours.observer = Looking(every) if every else None
    theirs = nn.GRU(F, H, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.input_weight)
        theirs.weight_hh_l0.copy_(cell.recurrent_weight)
        second = torch.cat([torch.full((2 * H,), 0.25, dtype=torch.float64), cell.candidate_bias])
        theirs.bias_hh_l0.copy_(second)
        theirs.bias_ih_l0.copy_(cell.bias)
        theirs.bias_ih_l0[: 2 * H] -= 0.25
    x = drawn(B, T, F).requires_grad_()
    out, expected = ours(x), theirs(x)[0]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    found = gradients(out, x, cell.input_weight, cell.recurrent_weight, cell.bias, cell.candidate_bias)
    wanted = gradients(expected, x, theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0, theirs.bias_hh_l0)
    wanted[-1] = wanted[-1][2 * H :]
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_one_step_is_its_equation():
    """From a state other than 0, which the fused kernel takes too."""
    cell, x, h = make(), drawn(B, 1, F), drawn(B, H, name="h")
    W, U, b = (each.detach().chunk(3) for each in (cell.input_weight, cell.recurrent_weight, cell.bias))
    r = torch.sigmoid(x[:, 0] @ W[0].T + h @ U[0].T + b[0])
    keep = torch.sigmoid(x[:, 0] @ W[1].T + h @ U[1].T + b[1])
    n = torch.tanh(x[:, 0] @ W[2].T + b[2] + r * (h @ U[2].T + cell.candidate_bias))
    expected = keep * h + (1 - keep) * n
    z, step = cell.begin(x)
    torch.testing.assert_close(step(z[:, 0], (h,), 0)[0], expected, rtol=0, atol=1e-13)
    states, (last,) = cell.fast(x, (h,))
    torch.testing.assert_close(states[:, 0], expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(cell.leak(z[:, 0], (h,), 0), keep, rtol=0, atol=1e-13)


def test_chrono_makes_the_update_gate_keep():
    """Of b_z alone; σ(b_z) = u / (1 + u) for u ~ U[1, T_max − 1]."""
    cell = gru(1, 4000, activations.tanh, chrono=100).double()
    cell.reset(stream(0, "reset"))
    r, z, n = cell.bias.detach().chunk(3)
    times = (z.sigmoid() / (1 - z.sigmoid())).sort().values
    uniform = 1 + 98 * (torch.arange(4000) + 0.5) / 4000
    assert (times - uniform).abs().max() / 98 < 1.95 / 4000**0.5  # Kolmogorov–Smirnov at 0.1 %
    assert not r.any()
    assert not n.any()
    assert not cell.candidate_bias.any()


def test_without_chrono_all_biases_begin_at_0():
    cell = gru(F, H, activations.tanh)
    cell.reset(stream(0, "reset"))
    assert not cell.bias.any()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_norm_inside_takes_no_kernel(norm):
    assert make(recurrent_norm=norm).fast(drawn(B, T, F), (drawn(B, H),)) is None


def test_refusals():
    with pytest.raises(ValueError, match="cell=gru has its own non-linearities"):
        gru(F, H, activations.relu)
    with pytest.raises(ValueError, match=r"cell\.chrono=1 leaves no time to remember"):
        gru(F, H, activations.tanh, chrono=1)


def test_roles():
    cell = make()
    matrices = list(cell.matrices())
    assert [m.role for m in matrices] == ["gate", "gate", "map"] + ["recurrent"] * 3
    assert torch.equal(torch.cat([m.tensor for m in matrices[:3]]), cell.input_weight)
    assert torch.equal(torch.cat([m.bias for m in matrices[:3]]), cell.bias)
    assert torch.equal(torch.cat([m.tensor for m in matrices[3:]]), cell.recurrent_weight)
