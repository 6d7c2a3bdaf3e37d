"""coRNN against the paper's equations, and the bound on its energy."""

from __future__ import annotations

import pytest
import torch
from by_hand import WIDTH, agrees_with, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.cornn import cornn

DT, GAMMA, EPSILON = 0.2, 1.3, 0.7


def loop(phi, damping):
    def run(cell, x, state):
        y, z = state
        out = []
        for t in range(x.shape[1]):
            force = phi(
                y @ cell.position_weight.T + z @ cell.velocity_weight.T + x[:, t] @ cell.input_weight.T + cell.bias
            )
            if damping == "explicit":
                z = z + DT * (force - GAMMA * y - EPSILON * z)
            else:  # z = z_old + Δt (force − γ y − ε z), solved for z
                z = (z + DT * (force - GAMMA * y)) / (1 + DT * EPSILON)
            y = y + DT * z
            out.append(y)
        return torch.stack(out, 1)

    return run


@pytest.mark.parametrize("damping", ["explicit", "implicit"])
@pytest.mark.parametrize("activation", [activations.tanh, activations.swiglu])
def test_its_equations_and_their_gradients(damping, activation):
    cell = moved(cornn, activation, dt=DT, gamma=GAMMA, epsilon=EPSILON, damping=damping)
    agrees_with(loop(activation(), damping), cell)


@pytest.mark.parametrize("damping", ["explicit", "implicit"])
def test_what_every_cell_owes(damping):
    is_a_cell(cornn, damping=damping)


def test_roles_of_the_weights():
    assert [m.role for m in cornn(3, 4, activations.tanh).matrices()] == ["map", "recurrent", "recurrent"]
    assert cornn(3, 4, activations.tanh).state_names == ("h", "v")


def test_the_energy_s_bound():
    """γ|h_t|² + |v_t|² ≤ t Δt H/ε for implicit damping, |φ| ≤ 1 and Δt ≤ ε/γ, however large weights and inputs are.

    From v·(v − v⁻) = Δt (v·φ − γ v·h⁻ − ε|v|²) and h⁻·(h − h⁻) = Δt h⁻·v: the energy grows by at most
    2Δt v·φ − 2Δt ε|v|² + γΔt²|v|² ≤ Δt|φ|²/ε + (γΔt² − εΔt)|v|² per step.
    """
    dt, gamma, epsilon = 0.4, 0.8, 0.5
    cell = moved(cornn, dt=dt, gamma=gamma, epsilon=epsilon, damping="implicit")
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(30)
    x = 10 * sequence(500)
    z, step = cell.begin(x)
    state = cell.start(x)
    largest = 0.0
    for t in range(500):
        state = step(z[:, t], state, t)
        energy = gamma * state[0].square().sum(1) + state[1].square().sum(1)
        assert (energy <= (t + 1) * dt * WIDTH / epsilon).all()
        largest = max(largest, float(energy.detach().max()) / (dt * WIDTH / epsilon))
    assert largest > 0.1  # the oscillators do move


def test_an_undriven_oscillator_without_damping_keeps_its_energy():
    """Symplectic Euler keeps γ h² + v² + Δt γ h·v exactly."""
    cell = cornn(3, WIDTH, activations.tanh, dt=0.3, gamma=2.0, epsilon=0.0).double()
    x = torch.zeros(1, 1000, 3, dtype=torch.float64)
    z, step = cell.begin(x)
    state = (torch.ones(1, WIDTH, dtype=torch.float64), torch.zeros(1, WIDTH, dtype=torch.float64))

    def kept(state):
        h, v = state
        return 2.0 * h**2 + v**2 - 0.3 * 2.0 * h * v

    first = kept(state)
    for t in range(1000):
        state = step(z[:, t], state, t)
    torch.testing.assert_close(kept(state), first, rtol=1e-11, atol=0)
