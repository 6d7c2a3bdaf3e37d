"""AntisymmetricRNN against the paper's equations, with and without the gate."""

from __future__ import annotations

import pytest
import torch
from by_hand import WIDTH, agrees_with, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.antisymmetric_rnn import antisymmetric_rnn
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream


def loop(epsilon, gamma, phi, gated):
    def run(cell, x, state):
        (h,) = state
        w, v, b = cell.recurrent_weight, cell.input_weight, cell.bias
        matrix = w - w.T - gamma * torch.eye(WIDTH, dtype=torch.float64)
        out = []
        for t in range(x.shape[1]):
            if gated:
                z = torch.sigmoid(h @ matrix.T + x[:, t] @ v[:WIDTH].T + b[:WIDTH])
                h = h + epsilon * z * phi(h @ matrix.T + x[:, t] @ v[WIDTH:].T + b[WIDTH:])
            else:
                h = h + epsilon * phi(h @ matrix.T + x[:, t] @ v.T + b)
            out.append(h)
        return torch.stack(out, 1)

    return run


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", [activations.tanh, activations.relu])
def test_its_equation_and_its_gradients(gated, activation):
    cell = moved(antisymmetric_rnn, activation, epsilon=0.3, gamma=0.2, gated=gated)
    agrees_with(loop(0.3, 0.2, activation(), gated), cell)


@pytest.mark.parametrize("gated", [False, True])
def test_what_every_cell_owes(gated):
    is_a_cell(antisymmetric_rnn, gated=gated)


def test_roles_of_the_weights():
    roles = [(m.role, tuple(m.tensor.shape)) for m in antisymmetric_rnn(3, 4, activations.tanh, gated=True).matrices()]
    assert roles == [("gate", (4, 3)), ("map", (4, 3)), ("recurrent", (4, 4))]


@pytest.mark.parametrize("gated", [False, True])
def test_the_matrix_stays_antisymmetric_in_training(gated):
    """W − Wᵀ, exactly, after 1,000 steps of Adam; with γ its eigenvalues all have the real part −γ."""
    cell = moved(antisymmetric_rnn, epsilon=0.1, gamma=0.05, gated=gated)
    before = cell.matrix().detach().clone()
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.01)
    x = sequence(3).detach()
    for _ in range(1000):
        optimizer.zero_grad()
        (Recurrence(cell)(x) - 1).square().mean().backward()
        optimizer.step()
    matrix = cell.matrix().detach()
    assert (matrix - before).abs().max() > 0.1
    skew = matrix + 0.05 * torch.eye(WIDTH, dtype=torch.float64)
    assert (skew + skew.T).abs().max() <= 1e-15
    assert (torch.linalg.eigvals(matrix).real + 0.05).abs().max() < 1e-12


def test_small_steps_neither_shrink_nor_stretch():
    """Without diffusion the linear equation h′ = (W − Wᵀ) h rotates: over a time of 1 the norm is kept to O(ε)."""
    cell = moved(antisymmetric_rnn, activations.linear, epsilon=1e-3, gamma=0.0)
    with torch.no_grad():
        cell.bias.zero_()
    h = torch.randn(5, WIDTH, generator=stream(0, "h"), dtype=torch.float64)
    z, step = cell.begin(torch.zeros(5, 1000, 3, dtype=torch.float64))
    state = (h,)
    for t in range(1000):
        state = step(z[:, t], state, t)
    largest = torch.linalg.matrix_norm(cell.matrix(), 2)
    assert (state[0] - h).abs().max() > 0.1
    ratio = state[0].norm(dim=1) / h.norm(dim=1)
    assert ((ratio >= 1) & (ratio <= torch.exp(0.5e-3 * largest**2))).all()


def test_activations_with_more_pre_activations_are_refused():
    with pytest.raises(ValueError, match=r"cell=antisymmetric_rnn has one pre-activation"):
        antisymmetric_rnn(3, 4, activations.swiglu)
