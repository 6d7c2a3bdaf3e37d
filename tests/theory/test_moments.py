"""Gaussian moments against closed forms, derived by hand or printed in papers."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.nn import functional

from gradflow.theory.moments import expectation, moments

VARIANCES = [1e-12, 0.01, 1.0, 7.0, 1e4, 1e12]


def four(found):
    return [found.mean, found.square, found.slope, found.slope_square]


def below(s):
    """P(z < −s) for z ~ N(0, 1)."""
    return math.erfc(s / math.sqrt(2)) / 2


def close(expected):
    return pytest.approx(expected, rel=2e-13, abs=1e-300)


@pytest.mark.parametrize("variance", VARIANCES)
def test_linear_and_quadratic(variance):
    found = moments(lambda z: 3 * z + 0.5, variance)
    assert found.mean == pytest.approx(0.5, rel=1e-14, abs=1e-14 * math.sqrt(variance))
    assert [found.square, found.slope, found.slope_square] == close([9 * variance + 0.25, 3, 9])
    found = moments(torch.square, variance)
    assert [found.mean, found.square, found.slope_square] == close([variance, 3 * variance**2, 4 * variance])
    assert abs(found.slope) < 1e-13 * math.sqrt(variance)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.25, 2.0])
@pytest.mark.parametrize("variance", VARIANCES)
def test_leaky_relu(variance, slope):
    """(1 − a)σ/√(2π), (1 + a²)σ²/2 (He et al. 2015, eq. 15), (1 + a)/2, (1 + a²)/2."""
    found = moments(lambda z: functional.leaky_relu(z, slope), variance)
    assert four(found) == close(
        [
            (1 - slope) * math.sqrt(variance / (2 * math.pi)),
            (1 + slope**2) * variance / 2,
            (1 + slope) / 2,
            (1 + slope**2) / 2,
        ]
    )


@pytest.mark.parametrize("variance", VARIANCES)
def test_squared_relu(variance):
    """Half of E z², E z⁴, 2 E|z| and 4 E z²."""
    expected = [variance / 2, 1.5 * variance**2, 2 * math.sqrt(variance / (2 * math.pi)), 2 * variance]
    assert four(moments(lambda z: torch.relu(z).square(), variance)) == close(expected)


@pytest.mark.parametrize("variance", [0.01, 1.0, 7.0])
def test_elu(variance):
    """With E[e^{kz}; z < 0] = e^{k²σ²/2} P(z < −kσ²)."""
    s = math.sqrt(variance)
    one, two = math.exp(variance / 2) * below(s), math.exp(2 * variance) * below(2 * s)
    expected = [s / math.sqrt(2 * math.pi) + one - 0.5, variance / 2 + two - 2 * one + 0.5, 0.5 + one, 0.5 + two]
    found = moments(functional.elu, variance)
    assert four(found) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("variance", VARIANCES)
def test_gelu(variance):
    """E zΦ(z) = σ²/√(2π(1 + σ²)) by parts, to the rounding of z; φ′ − 1/2 is odd."""
    found = moments(functional.gelu, variance)
    mean = variance / math.sqrt(2 * math.pi * (1 + variance))
    assert found.mean == pytest.approx(mean, rel=1e-13, abs=1e-14 * math.sqrt(variance))
    assert found.slope == close(0.5)


@pytest.mark.parametrize("variance", VARIANCES)
def test_error_function(variance):
    """E erf(z)² = (2/π) asin(2σ²/(1 + 2σ²)) (Williams 1997), written with atan; erf′ and erf′² are Gaussians."""
    found = moments(torch.erf, variance)
    assert found.square == close(2 / math.pi * math.atan(2 * variance / math.sqrt(1 + 4 * variance)))
    assert [found.slope, found.slope_square] == close(
        [2 / math.sqrt(math.pi * (1 + 2 * variance)), 4 / math.pi / math.sqrt(1 + 4 * variance)]
    )


@pytest.mark.parametrize("variance", VARIANCES)
def test_clipped_at_forgotten_and_known_kinks(variance):
    """φ = z cut to [−c, c], c = 0.7: E φ′ = erf(c/(σ√2)). Without its kinks the error says so, and says enough."""
    exact = math.erf(0.7 / math.sqrt(2 * variance))
    known = moments(lambda z: z.clamp(-0.7, 0.7), variance, kinks=(-0.7, 0.7))
    assert [known.slope, known.slope_square] == close([exact, exact])
    assert known.error < 1e-13
    forgotten = moments(lambda z: z.clamp(-0.7, 0.7), variance)
    assert abs(forgotten.slope - exact) <= 3 * forgotten.error * exact
    if variance == 1:
        assert forgotten.error > 1e-4


@pytest.mark.parametrize("phi", [torch.tanh, torch.sigmoid, functional.silu, functional.gelu, functional.elu])
def test_stein_s_lemma(phi):
    """E φ′ = E zφ/σ² (Stein 1981), the one from autograd and the other not."""
    for variance in (0.3, 1.0, 20.0):
        (product,), _ = expectation(lambda z: (z * phi(z))[None], variance)
        assert moments(phi, variance).slope == pytest.approx(product / variance, rel=1e-12)


def test_mean_field_of_tanh():
    """The table of Schoenholz et al. 2017's tanh networks with σ_b² = 0.05: q* = σ_w² E φ² + σ_b², χ₁ = σ_w² E φ′²."""
    for weight_variance, fixed_point, chi in ((1.0, 0.1936, 0.7590), (2.0, 0.7218, 1.0477), (4.0, 2.1955, 1.3424)):
        q = 1.0
        for _ in range(200):
            q = weight_variance * moments(torch.tanh, q).square + 0.05
        assert q == pytest.approx(fixed_point, abs=5e-5)
        assert weight_variance * moments(torch.tanh, q).slope_square == pytest.approx(chi, abs=5e-5)


def test_vanishing_of_sigmoid():
    """√χ₁ per layer at the fixed point without biases, by σ_w²."""
    for weight_variance, factor in ((1 / 3, 0.1414), (1.0, 0.2360), (4.0, 0.414), (16.0, 0.632)):
        q = 1.0
        for _ in range(200):
            q = weight_variance * moments(torch.sigmoid, q).square
        chi = weight_variance * moments(torch.sigmoid, q).slope_square
        assert math.sqrt(chi) == pytest.approx(factor, rel=1e-3)


def test_several_functions_at_once():
    """Even moments of a Gaussian: (2k − 1)!! σ²ᵏ."""
    values, error = expectation(lambda z: torch.stack([z**2, z**4, z**8, z**12]), 4.0)
    assert values == close([4, 3 * 4**2, 105 * 4**4, 10395 * 4**6])
    assert error < 1e-13


def test_what_surrounds_a_call_has_no_influence():
    plain = moments(torch.tanh)
    with torch.device("meta"), torch.inference_mode():
        assert moments(torch.tanh) == plain
    with torch.no_grad():
        assert moments(torch.tanh) == plain
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float16)
        assert moments(torch.tanh) == plain
    finally:
        torch.set_default_dtype(default)
    assert torch.is_grad_enabled()
    with pytest.raises(FrozenInstanceError):
        plain.mean = 0.0


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan])
def test_variances_that_are_none(variance):
    with pytest.raises(ValueError, match="must be a finite number above 0"):
        moments(torch.tanh, variance)
