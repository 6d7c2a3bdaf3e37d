"""JANET against its equations (van der Westhuizen & Lasenby 2018) written out."""

from __future__ import annotations

import pytest
import torch
from by_hand import drawn, filled, gradients

from gradflow.models import activations
from gradflow.models.cells.janet import janet
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

B, T, F, H = 3, 9, 4, 5


def make(**keys):
    cell = janet(F, H, activations.tanh, **keys).double()
    return filled(cell)


@pytest.mark.parametrize(("keys", "beta"), [({}, 1.0), ({"beta": 0.0}, 0.0), ({"beta": 2.5}, 2.5)])
def test_is_its_equations(keys, beta):
    cell, x = make(**keys), drawn(B, T, F).requires_grad_()
    (W_f, W_c), (U_f, U_c) = cell.input_weight.chunk(2), cell.recurrent_weight.chunk(2)
    b_f, b_c = cell.bias.chunk(2)
    c = torch.zeros(B, H, dtype=torch.float64)
    states, kept = [], []
    for t in range(T):
        s = c @ U_f.T + x[:, t] @ W_f.T + b_f
        candidate = torch.tanh(c @ U_c.T + x[:, t] @ W_c.T + b_c)
        kept.append((c, torch.sigmoid(s)))
        c = torch.sigmoid(s) * c + (1 - torch.sigmoid(s - beta)) * candidate
        states.append(c)
    expected, out = torch.stack(states, 1), Recurrence(cell)(x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    of = (x, *cell.parameters())
    for mine, other in zip(gradients(out, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    z, _ = cell.begin(x)
    for t, (before, share) in enumerate(kept):
        torch.testing.assert_close(cell.leak(z[:, t], (before,), t), share, rtol=0, atol=1e-12)


def test_beginnings():
    """b_f = 1, or log U[1, T_max − 1]; the candidate's bias 0."""
    cell = janet(F, H, activations.tanh)
    cell.reset(stream(0, "reset"))
    assert cell.bias.tolist() == [1.0] * H + [0.0] * H
    cell = janet(1, 4000, activations.tanh, chrono=100).double()
    cell.reset(stream(0, "reset"))
    forget, candidate = cell.bias.detach().chunk(2)
    uniform = 1 + 98 * (torch.arange(4000) + 0.5) / 4000
    assert (forget.exp().sort().values - uniform).abs().max() / 98 < 1.95 / 4000**0.5  # Kolmogorov–Smirnov at 0.1 %
    assert not candidate.any()


def test_refusals():
    with pytest.raises(ValueError, match="cell=janet has its own non-linearities"):
        janet(F, H, activations.relu)
    with pytest.raises(ValueError, match=r"cell\.chrono=1 leaves no time to remember"):
        janet(F, H, activations.tanh, chrono=1)


def test_roles():
    cell = make()
    matrices = list(cell.matrices())
    assert [m.role for m in matrices] == ["gate", "map", "recurrent", "recurrent"]
    assert torch.equal(torch.cat([m.tensor for m in matrices[:2]]), cell.input_weight)
    assert torch.equal(torch.cat([m.bias for m in matrices[:2]]), cell.bias)
    assert torch.equal(torch.cat([m.tensor for m in matrices[2:]]), cell.recurrent_weight)
