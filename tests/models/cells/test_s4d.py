"""S4D against its equations step by step, against the solution of its differential equation, and its starts."""

from __future__ import annotations

import math

import pytest
import torch
from by_hand import FEATURES, WIDTH, agrees_with, begun, is_a_cell, moved, sequence

from gradflow.models import activations
from gradflow.models.cells import s4d as module
from gradflow.models.cells.s4d import s4d
from gradflow.models.recurrence import Recurrence


def loop(phi):
    def run(cell, x, state):
        _, c_state = state
        a = -torch.exp(cell.decay) + 1j * cell.frequency
        step = torch.exp(cell.step_size)[:, None]
        c = cell.output_weight[..., 0] + 1j * cell.output_weight[..., 1]
        out = []
        for t in range(x.shape[1]):
            u = x[:, t] @ cell.input_weight.T + cell.bias
            c_state = torch.exp(step * a) * c_state + (torch.exp(step * a) - 1) / a * u[..., None]
            out.append(phi(2 * (c * c_state).sum(-1).real + cell.feedthrough * u))
        return torch.stack(out, 1)

    return run


@pytest.mark.parametrize("block", [128, 5])
@pytest.mark.parametrize("activation", [activations.tanh, activations.swiglu])
@pytest.mark.parametrize("spectrum", ["lin", "inv"])
def test_its_equations_and_their_gradients(activation, spectrum, block, monkeypatch):
    """In blocks of 4 and a rest of 1 too: 17 steps in blocks of at most 5."""
    monkeypatch.setattr(module, "BLOCK", block)
    cell = moved(s4d, activation, state_size=6, spectrum=spectrum, dt_min=0.05, dt_max=0.5)
    agrees_with(loop(activation()), cell, steps=17)


@pytest.mark.parametrize("steps", [1, 2, 127, 128, 129, 300])
def test_every_length_in_one_call(steps):
    cell = moved(s4d, state_size=4)
    x = sequence(steps)
    torch.testing.assert_close(Recurrence(cell)(x), loop(torch.tanh)(cell, x, cell.start(x)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spectrum", ["lin", "inv"])
def test_what_every_cell_owes(spectrum):
    is_a_cell(s4d, spectrum=spectrum)


def test_a_held_input_is_the_differential_equation_s_solution():
    """c′ = A c + u under a constant u: c(t) = A⁻¹(e^{tA} − 1) u exactly, whatever the step."""
    cell = moved(s4d, activations.linear, state_size=4)
    a = -torch.exp(cell.decay) + 1j * cell.frequency
    c = torch.view_as_complex(cell.output_weight)
    steps, x = 50, torch.ones(1, 50, FEATURES, dtype=torch.float64)
    u = cell.input_weight.sum(1) + cell.bias
    time = torch.exp(cell.step_size)[:, None] * steps
    expected = 2 * (c * (torch.exp(time * a) - 1) / a).sum(-1).real * u + cell.feedthrough * u
    torch.testing.assert_close(Recurrence(cell)(x)[0, -1], expected, rtol=1e-10, atol=1e-10)


def test_spectra_at_the_start():
    n = torch.arange(4, dtype=torch.float64)
    for spectrum, frequency in (("lin", math.pi * n), ("inv", 8 / math.pi * (8 / (2 * n + 1) - 1))):
        cell = begun(s4d, state_size=8, spectrum=spectrum)
        torch.testing.assert_close(cell.frequency[1].double(), frequency, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(cell.decay.exp(), torch.full((WIDTH, 4), 0.5))


def test_steps_begin_log_uniformly():
    cell = begun(s4d, width=2000, state_size=2, dt_min=0.01, dt_max=0.5)
    share = (cell.step_size.detach().double() - math.log(0.01)) / math.log(50)
    even = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    assert (share.sort().values - even).abs().max() < 1.63 / math.sqrt(2000)  # Kolmogorov–Smirnov, 1 %
    assert float(torch.view_as_complex(cell.output_weight).detach().abs().square().mean()) == pytest.approx(1, rel=0.1)


def test_eigenvalues_stay_within_the_unit_circle():
    cell = moved(s4d, activations.linear, state_size=4)
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.01)
    x = sequence(20).detach()
    target = torch.exp(torch.arange(20.0, dtype=torch.float64))[None, :, None]
    before = cell.sampled()[0].detach().clone()
    for _ in range(1000):
        optimizer.zero_grad()
        (Recurrence(cell)(x) - target).square().mean().backward()
        optimizer.step()
        assert (cell.sampled()[0].exp().abs() < 1).all()
    assert (cell.sampled()[0] - before).abs().max() > 0.05


def test_autocast_leaves_the_states_their_precision():
    cell = begun(s4d)
    x = sequence(300, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        h, (_, memory) = cell.fast(x, cell.start(x))
        z, step = cell.begin(x)
        state = cell.start(x)
        for t in range(300):
            state = step(z[:, t], state, t)
    assert (h.dtype, memory.dtype) == (torch.float32, torch.complex64)
    torch.testing.assert_close(memory, state[1], rtol=1e-3, atol=1e-3)


def test_steps_the_wrong_way_round_are_refused():
    with pytest.raises(ValueError, match=r"cell.dt_min=0.5 is more than cell.dt_max=0.1"):
        s4d(3, 4, activations.tanh, dt_min=0.5)
