"""expRNN against the paper's equations; the exponential against its eigenvalues, and orthogonal after training."""

from __future__ import annotations

import math

import pytest
import torch
from by_hand import WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.exprnn import exprnn
from gradflow.models.recurrence import Recurrence


def skew(cell):
    """A, entry by entry."""
    a = torch.zeros(cell.width, cell.width, dtype=cell.skew.dtype)
    entries = iter(cell.skew.unbind())
    rows = [list(row.unbind()) for row in a]
    for i in range(cell.width):
        for j in range(i + 1, cell.width):
            entry = next(entries)
            rows[i][j], rows[j][i] = entry, -entry
    return torch.stack([torch.stack(row) for row in rows])


def exponential(a):
    """Σ Aᵏ/k!, which converges fast for the sizes here."""
    term = total = torch.eye(len(a), dtype=a.dtype)
    for k in range(1, 60):
        term = term @ a / k
        total = total + term
    return total


def loop(phi):
    def run(cell, x, state):
        (h,) = state
        w = exponential(skew(cell))
        out = []
        for t in range(x.shape[1]):
            z = h @ w.T + x[:, t] @ cell.input_weight.T
            if phi is None:
                b = cell.activation.bias
                h = torch.sign(z) * torch.maximum(z.abs() + b, torch.zeros_like(z))
            else:
                h = phi(z + cell.bias)
            out.append(h)
        return torch.stack(out, 1)

    return run


@pytest.mark.parametrize("start", ["cayley", "henaff"])
def test_its_equation_with_modrelu(start):
    agrees_with(loop(None), moved(exprnn, start=start))


def test_its_equation_with_the_network_s_activation():
    agrees_with(loop(torch.relu), moved(exprnn, activations.relu, nonlinearity="activation"))


@pytest.mark.parametrize("keys", [{}, {"start": "henaff", "nonlinearity": "activation"}])
def test_what_every_cell_owes(keys):
    is_a_cell(exprnn, **keys)


@pytest.mark.parametrize("start", ["cayley", "henaff"])
def test_orthogonal_after_a_thousand_steps(start):
    cell = moved(exprnn, start=start)
    before = cell.matrix().detach().clone()
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.01)
    x = sequence(3).detach()
    for _ in range(1000):
        optimizer.zero_grad()
        (Recurrence(cell)(x) - 1).square().mean().backward()
        optimizer.step()
    w = cell.matrix().detach()
    assert (w - before).abs().max() > 0.1
    assert (w @ w.T - torch.eye(WIDTH, dtype=w.dtype)).abs().max() < 1e-12
    assert float(torch.linalg.det(w)) == pytest.approx(1)


@pytest.mark.parametrize("start", ["cayley", "henaff"])
def test_angles_of_the_eigenvalues_at_the_start(start):
    """exp(A) rotates by the angles s of A's blocks: uniform in |s| up to π, or tan(u/2) with u uniform up to π/2."""
    cell = begun(exprnn, width=401, start=start).double()
    angles = torch.linalg.eigvals(cell.matrix().detach()).angle().sort().values
    positive = angles[201:]
    assert float(angles[200]) == pytest.approx(0, abs=1e-10)  # the one unit without a partner
    torch.testing.assert_close(positive, -angles[:200].flip(0))
    u = positive / math.pi if start == "henaff" else 2 * torch.atan(positive) / (math.pi / 2)
    even = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    assert (u - even).abs().max() < 1.63 / math.sqrt(200)  # Kolmogorov–Smirnov, 1 %


def test_blocks_at_the_start():
    a = skew(begun(exprnn, width=6)).detach()
    for i in range(0, 6, 2):
        assert -1 <= a[i, i + 1] <= 0  # −tan(u/2)
        a[i, i + 1] = a[i + 1, i] = 0
    assert (a == 0).all()


def test_modrelu_s_bias_at_the_start():
    bias = begun(exprnn, width=500).activation.bias
    assert bias.abs().max() <= 0.01
    assert bias.abs().max() > 0.009


def test_the_gradient_s_norm_is_kept_for_a_linear_unit():
    cell = moved(exprnn, activations.linear, nonlinearity="activation")
    h = torch.randn(1, WIDTH, dtype=torch.float64, requires_grad=True)
    z, step = cell.begin(sequence(200, batch=1))
    state = (h,)
    for t in range(200):
        state = step(z[:, t], state, t)
    direction = torch.randn(1, WIDTH, dtype=torch.float64)
    (grad,) = torch.autograd.grad(state[0], h, direction)
    assert float(grad.norm()) == pytest.approx(float(direction.norm()), rel=1e-12)


def test_another_activation_beside_modrelu_is_refused():
    with pytest.raises(ValueError, match=r"cell=exprnn .*modrelu has its own non-linearities"):
        exprnn(3, 4, activations.relu)
    with pytest.raises(ValueError, match=r"cell=exprnn has one pre-activation"):
        exprnn(3, 4, activations.swiglu, nonlinearity="activation")
