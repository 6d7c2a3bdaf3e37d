"""Mean-field theory of recurrent networks against closed forms and simulation."""

from __future__ import annotations

import math

import pytest
import torch

from gradflow.theory.recurrent import mean_field


def test_relu_and_a_linear_network_in_closed_form():
    """ReLU: E φ² = q/2, so that q* = g²q*/2 + v, and E φ′² = ½."""
    found = mean_field(torch.relu, 1.0, input_variance=0.7)
    assert found.variance == pytest.approx(1.4, rel=1e-9)
    assert found.chi == pytest.approx(0.5, rel=1e-9)
    linear = mean_field(lambda z: z, 0.8, input_variance=1.0)
    assert linear.variance == pytest.approx(1 / (1 - 0.64), rel=1e-9)
    assert linear.exponent == pytest.approx(math.log(0.8), rel=1e-12)


def test_a_quiet_tanh_network_decays_by_its_gain():
    found = mean_field(torch.tanh, 0.5)
    assert found.variance == 0.0
    assert found.exponent == pytest.approx(math.log(0.5), rel=1e-6)


@pytest.mark.parametrize(("gain", "exponent"), [(1.5, 0.065), (2.0, 0.155)])
def test_published_exponents_of_chaotic_networks(gain, exponent):
    assert mean_field(torch.tanh, gain).exponent == pytest.approx(exponent, abs=5e-4)


@pytest.mark.parametrize(("gain", "variance"), [(1.2, 0.3), (2.5, 0.0)])
def test_variance_and_chi_by_simulation(gain, variance):
    generator = torch.Generator().manual_seed(0)
    width = 1500
    weights = torch.randn(width, width, generator=generator) * gain / math.sqrt(width)
    h, squares, slopes = torch.rand(width, generator=generator), [], []
    for time in range(60):
        z = weights @ h + math.sqrt(variance) * torch.randn(width, generator=generator)
        h = z.tanh()
        if time >= 20:
            squares.append(z.square().mean())
            slopes.append(gain**2 * (1 - h**2).square().mean())
    found = mean_field(torch.tanh, gain, variance)
    assert found.variance == pytest.approx(torch.stack(squares).mean().item(), rel=0.03)
    assert found.chi == pytest.approx(torch.stack(slopes).mean().item(), rel=0.03)


def test_what_does_not_settle_is_refused():
    with pytest.raises(ValueError, match="does not settle"):
        mean_field(torch.relu, 1.5)
    with pytest.raises(ValueError, match="gain=0"):
        mean_field(torch.relu, 0.0)
