"""Expectations over two correlated Gaussians and over spheres, against closed forms and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from gradflow.theory.closed_forms import arc_cosine, erf_pair, leaky_pair
from gradflow.theory.moments import expectation
from gradflow.theory.pairs import pair_expectation, pair_values
from gradflow.theory.response import alone, is_homogeneous, response, values_and_slopes
from gradflow.theory.sphere import on_sphere

CORRELATIONS = [-1.0, -0.999999, -0.6, 0.0, 0.3, 0.95, 1 - 1e-6, 1 - 1e-12, 1.0]


def both(phi):
    return lambda z: torch.stack(values_and_slopes(phi, z))


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_rectifiers(slope, c):
    found, error = pair_expectation(both(lambda z: functional.leaky_relu(z, slope)), 3.0, c)
    assert found == pytest.approx(leaky_pair(slope, 3.0, c), rel=1e-7, abs=1e-7)
    assert error < 1e-7
    quick = pair_values(both(lambda z: functional.leaky_relu(z, slope)), 3.0, c)
    assert quick == pytest.approx(leaky_pair(slope, 3.0, c), rel=1e-7, abs=1e-7)
    if slope == 0:
        expected = [3.0 * arc_cosine(1, c) / 2, arc_cosine(0, c) / 2]
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-7)
        (squared,), _ = pair_expectation(lambda z: torch.relu(z).square()[None], 1.0, c)
        assert squared == pytest.approx(arc_cosine(2, c) / 2, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize("q", [1e-8, 0.3, 5.0, 1e4])
def test_error_function(q, c):
    found, error = pair_expectation(both(torch.erf), q, c)
    assert found == pytest.approx(erf_pair(q, c), rel=2e-9)
    assert error < 1e-6


@pytest.mark.parametrize("c", [-0.7, 0.2, 0.99])
def test_kinks_apart_from_zero(c):
    """Hard tanh: E φ′φ′ = P(|u| < 1, |v| < 1), by the normal distribution function in one dimension."""
    found, _ = pair_expectation(both(lambda z: z.clamp(-1, 1)), 1.5, c, kinks=(-1.0, 1.0))
    s, root = math.sqrt(1.5), math.sqrt(2 * (1 - c * c) * 1.5)

    def inside(z):
        return (z.abs() < 1) * (torch.erf((1 - c * z) / root) + torch.erf((1 + c * z) / root)) / 2

    (probability,), _ = expectation(lambda z: inside(z)[None], s**2, kinks=(-1.0, 1.0))
    assert found[1] == pytest.approx(probability, rel=1e-9)


def test_moments_that_are_known():
    """Isserlis: E u³v³ = 9c + 6c³ at unit variance."""
    (odd, even), _ = pair_expectation(lambda z: torch.stack([z**3, z**2]), 1.0, 0.4)
    assert [odd, even] == pytest.approx([9 * 0.4 + 6 * 0.4**3, 1 + 2 * 0.4**2], rel=1e-12)


@pytest.mark.parametrize("phi", [torch.tanh, torch.sigmoid, functional.elu, torch.relu])
def test_responses_that_come_up_often_are_interpolated_well(phi):
    rng = np.random.default_rng(0)
    for c in [*rng.uniform(-1, 1, 12), 0.9999, 1 - 1e-9, -0.99999]:
        found = response(phi, 0.8, float(c))
        product, slope = pair_expectation(both(phi), 0.8, float(c))[0]
        assert [found.product, found.slope_product] == pytest.approx([product, slope], rel=1e-7, abs=1e-7)


def test_responses_at_the_ends():
    assert response(torch.tanh, 0.7, 0.0).product == pytest.approx(0.0, abs=1e-15)
    assert response(torch.sigmoid, 0.0, 0.3).product == 0.25
    assert response(torch.relu, 1e200, 0.5).product == pytest.approx(1e200 * arc_cosine(1, 0.5) / 2)
    assert is_homogeneous(functional.leaky_relu)
    assert not is_homogeneous(torch.tanh)
    assert not is_homogeneous(torch.sigmoid)
    assert response(torch.ones_like, 1.0, 0.5).slope_product == 0.0


@pytest.mark.parametrize("phi", [torch.tanh, torch.sigmoid, functional.elu])
def test_growth_is_the_derivative_of_the_square(phi):
    """d E φ²/dq = E φ′² + E φφ″, by differences of E φ²."""
    step = 1e-4
    slope = (alone(phi, 0.7 + step).square - alone(phi, 0.7 - step).square) / (2 * step)
    assert alone(phi, 0.7).growth == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("batch", [4, 5, 12, 100, 10**7])
def test_moments_on_a_sphere(batch):
    """E û² = 1, E ûv̂ = −1/(B − 1), E û⁴ = 3(B − 1)/(B + 1), and half of them for ReLU."""
    linear, square, relu = (on_sphere(phi, batch) for phi in (lambda z: z, torch.square, torch.relu))
    assert (linear.square, linear.product) == pytest.approx((1, -1 / (batch - 1)), rel=1e-9, abs=1e-12)
    assert square.square == pytest.approx(3 * (batch - 1) / (batch + 1), rel=1e-9)
    assert (relu.square, relu.slope_square) == pytest.approx((0.5, 0.5), rel=1e-9)
    by_symmetry = arc_cosine(0, -1 / (batch - 1)) / 2  # the law is elliptical: signs are as those of Gaussians
    assert relu.slope_product == pytest.approx(by_symmetry, rel=1e-5 if batch < 6 else 1e-9)
    assert linear.slope_product_uv == pytest.approx(-1 / (batch - 1), rel=1e-9, abs=1e-12)


def test_spheres_by_drawing_batches():
    z = torch.randn(400_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = z - z.mean(1, keepdim=True)
    u = z / z.square().mean(1, keepdim=True).sqrt()
    found = on_sphere(torch.sigmoid, 6)
    value, slope = values_and_slopes(torch.sigmoid, u.ravel())
    value, slope = value.view_as(u), slope.view_as(u)
    drawn = [
        value.square().mean(),
        (value[:, 0] * value[:, 1]).mean(),
        (slope * u).square().mean(),
        (slope[:, 0] * slope[:, 1] * u[:, 0] * u[:, 1]).mean(),
    ]
    wanted = [found.square, found.product, found.slope_square_u2, found.slope_product_uv]
    assert wanted == pytest.approx([each.item() for each in drawn], rel=0.01)


@pytest.mark.parametrize(("variance", "correlation"), [(0.0, 0.0), (math.inf, 0.0), (1.0, 1.1), (1.0, math.nan)])
def test_arguments_out_of_range(variance, correlation):
    with pytest.raises(ValueError, match="must"):
        pair_expectation(lambda z: z[None], variance, correlation)
