"""The LRU against the paper's equations, its ring (lemma 2) and the gain of its states (proposition 3)."""

from __future__ import annotations

import math

import pytest
import torch
from by_hand import FEATURES, WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells.lru import lru
from gradflow.models.recurrence import Recurrence
from gradflow.rng import stream

KOLMOGOROV = 1.63  # 1 %, over √n


def loop(phi):
    def run(cell, x, state):
        (h,) = state
        modulus, angle = torch.exp(-torch.exp(cell.decay)), torch.exp(cell.phase)
        lam = modulus * torch.exp(1j * angle)
        b = cell.input_weight[:, 0] + 1j * cell.input_weight[:, 1]
        c = cell.output_weight[..., 0] + 1j * cell.output_weight[..., 1]
        out = []
        for t in range(x.shape[1]):
            h = lam * h + torch.exp(cell.gain) * (x[:, t].to(b.dtype) @ b.T)
            passed = x[:, t] @ cell.feedthrough.T if cell.feedthrough.ndim == 2 else x[:, t] * cell.feedthrough
            out.append(phi((h @ c.T).real + passed))
        return torch.stack(out, 1)

    return run


@pytest.mark.parametrize("activation", [activations.tanh, activations.swiglu])
@pytest.mark.parametrize("state_size", [None, 3, 7])
def test_its_equations_and_their_gradients(activation, state_size):
    agrees_with(loop(activation()), moved(lru, activation, state_size=state_size))


def test_its_equations_with_as_many_features_as_units():
    cell = moved(lambda features, _, activation: lru(features, features, activation))
    assert cell.feedthrough.shape == (FEATURES,)
    agrees_with(loop(torch.tanh), cell)


@pytest.mark.parametrize("keys", [{}, {"state_size": 6, "r_min": 0.9, "r_max": 0.999, "max_phase": 0.3}])
def test_what_every_cell_owes(keys):
    is_a_cell(lru, **keys)


def test_the_state_is_complex_and_of_its_own_width():
    x = sequence(3)
    (h,) = lru(FEATURES, WIDTH, activations.tanh, state_size=6).double().start(x)
    assert (h.shape, h.dtype) == ((2, 6), torch.complex128)


@pytest.mark.parametrize(("low", "high", "phase"), [(0.0, 1.0, 2 * math.pi), (0.8, 0.95, 1.0)])
def test_eigenvalues_begin_uniformly_on_the_ring(low, high, phase):
    """Lemma 2: the area within |λ|, and the angle, are uniform and independent."""
    lam = begun(lru, state_size=4000, r_min=low, r_max=high, max_phase=phase).double().eigenvalues().detach()
    area = (lam.abs() ** 2 - low**2) / (high**2 - low**2)
    turn = (lam.angle() % (2 * math.pi)) / phase
    even = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for uniform in (area, turn):
        assert (uniform.sort().values - even).abs().max() < KOLMOGOROV / math.sqrt(4000)
    assert torch.corrcoef(torch.stack([area, turn]))[0, 1].abs() < 3 / math.sqrt(4000)


def test_the_gain_of_the_states_under_white_noise():
    """Proposition 3: E|h_∞|² = ln((1 − r_min²)/(1 − r_max²))/(r_max² − r_min²) · E|B x|² without γ, and E|B x|² with
    γ = √(1 − |λ|²)."""
    low, high, states, steps = 0.5, 0.95, 2000, 300
    cell = begun(lru, state_size=states, r_min=low, r_max=high).double()
    x = torch.randn(4, steps, FEATURES, generator=stream(0, "noise"), dtype=torch.float64)
    gains = {}
    for name in ("with", "without"):
        if name == "without":
            with torch.no_grad():
                cell.gain.zero_()
        with torch.no_grad():
            h, _ = cell.fast(x, cell.start(x))
        gains[name] = float(h[:, 150:].abs().square().mean())
    drive = float(cell.input_weight.detach().square().sum(1).mean()) * FEATURES
    formula = math.log((1 - low**2) / (1 - high**2)) / (high**2 - low**2)
    assert gains["without"] == pytest.approx(formula * drive, rel=0.15)
    assert gains["with"] == pytest.approx(drive, rel=0.15)


def test_the_gain_begins_as_the_paper_has_it():
    cell = begun(lru, state_size=50, r_min=0.9, r_max=0.9999).double()
    torch.testing.assert_close(cell.gain.exp() ** 2, 1 - cell.eigenvalues().abs() ** 2, rtol=1e-2, atol=1e-7)


def test_a_complex_weight_has_the_variance_that_the_initialiser_gives():
    cell = lru(FEATURES, WIDTH, activations.tanh, state_size=3000)
    generator = stream(0, "weights")
    for matrix in cell.matrices():
        matrix.tensor.normal_(0, 0.5, generator=generator)
    cell.reset(generator)
    b, c = torch.view_as_complex(cell.input_weight.mT.contiguous()), torch.view_as_complex(cell.output_weight)
    assert float(b.detach().abs().square().mean()) == pytest.approx(0.25, rel=0.05)
    assert float(c.detach().abs().square().mean()) == pytest.approx(0.5, rel=0.05)
    assert [m.role for m in cell.matrices()] == ["map"] * 5


def test_eigenvalues_stay_within_the_unit_circle():
    """After 1,000 steps of Adam towards an output that grows with time."""
    cell = moved(lru, activations.linear)
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.01)
    x = sequence(20).detach()
    target = torch.exp(torch.arange(20.0, dtype=torch.float64))[None, :, None]
    before = cell.eigenvalues().detach().clone()
    for _ in range(1000):
        optimizer.zero_grad()
        (Recurrence(cell)(x) - target).square().mean().backward()
        optimizer.step()
        assert (cell.eigenvalues().abs() < 1).all()
    assert (cell.eigenvalues() - before).abs().max() > 0.1


@pytest.mark.parametrize("keys", [{"r_min": 0.9, "r_max": 0.5}, {"r_max": 0.0}])
def test_a_ring_without_width_is_refused(keys):
    with pytest.raises(ValueError, match=r"cell.r_min=.* and cell.r_max=.* leave no ring"):
        lru(3, 4, activations.tanh, **keys)
