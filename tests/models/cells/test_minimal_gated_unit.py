"""The minimal gated unit against its equations (Zhou et al. 2016) written out."""

from __future__ import annotations

import pytest
import torch
from by_hand import drawn, filled, gradients

from gradflow.models import activations
from gradflow.models.cells.minimal_gated_unit import minimal_gated_unit
from gradflow.models.recurrence import Recurrence

B, T, F, H = 3, 9, 4, 5


def make():
    cell = minimal_gated_unit(F, H, activations.tanh).double()
    return filled(cell)


def test_is_its_equations():
    """One product with [h, x] for the gate and one with [f ⊙ h, x] for the candidate."""
    cell, x = make(), drawn(B, T, F).requires_grad_()
    joined_f, joined_h = torch.cat([cell.recurrent_weight, cell.input_weight], 1).chunk(2)
    b_f, b_h = cell.bias.chunk(2)
    h = torch.zeros(B, H, dtype=torch.float64)
    states, kept = [], []
    for t in range(T):
        f = torch.sigmoid(torch.cat([h, x[:, t]], 1) @ joined_f.T + b_f)
        candidate = torch.tanh(torch.cat([f * h, x[:, t]], 1) @ joined_h.T + b_h)
        kept.append((h, 1 - f))
        h = (1 - f) * h + f * candidate
        states.append(h)
    expected, out = torch.stack(states, 1), Recurrence(cell)(x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    of = (x, *cell.parameters())
    for mine, other in zip(gradients(out, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    z, _ = cell.begin(x)
    for t, (before, share) in enumerate(kept):
        torch.testing.assert_close(cell.leak(z[:, t], (before,), t), share, rtol=0, atol=1e-12)


def test_another_activation_is_refused():
    with pytest.raises(ValueError, match="cell=minimal_gated_unit has its own non-linearities"):
        minimal_gated_unit(F, H, activations.relu)


def test_roles():
    cell = make()
    matrices = list(cell.matrices())
    assert [m.role for m in matrices] == ["gate", "map", "recurrent", "recurrent"]
    assert torch.equal(torch.cat([m.tensor for m in matrices[:2]]), cell.input_weight)
    assert torch.equal(torch.cat([m.bias for m in matrices[:2]]), cell.bias)
    assert torch.equal(torch.cat([m.tensor for m in matrices[2:]]), cell.recurrent_weight)
