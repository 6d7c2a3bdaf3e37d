"""Formulas that papers print, with the numbers they print. `test_pairs` holds those of Gaussians against quadrature."""

from __future__ import annotations

import math

import pytest
import torch

from gradflow.theory.closed_forms import (
    SELU_DROPPED,
    STANDARD_SIGMA_W2,
    alpha_dropout,
    arc_cosine,
    attenuation,
    erf_pair,
    glorot_variance,
    he_variance,
    lambda_shortcuts,
    leaky_pair,
    linear_batch_norm_rate,
    relu_batch_norm_rate,
    relu_correlation,
    residual_growth,
)


def test_arc_cosine_kernels_at_the_ends():
    assert [arc_cosine(n, 1.0) for n in (0, 1, 2)] == pytest.approx([1, 1, 3])
    assert [arc_cosine(n, -1.0) for n in (0, 1, 2)] == pytest.approx([0, 0, 0], abs=1e-15)
    assert [arc_cosine(n, 0.0) for n in (0, 1, 2)] == pytest.approx([0.5, 1 / math.pi, 0.5])
    with pytest.raises(ValueError, match="order=3"):
        arc_cosine(3, 0.0)
    with pytest.raises(ValueError, match="c=2"):
        arc_cosine(1, 2.0)


def test_slopes_are_derivatives_of_values():
    """Price: d E φφ′/d(qc) = E φ′φ′."""
    for pair in (lambda c: leaky_pair(0.1, 2.0, c), lambda c: erf_pair(2.0, c)):
        assert (pair(0.4 + 1e-5)[0] - pair(0.4 - 1e-5)[0]) / 4e-5 == pytest.approx(pair(0.4)[1], rel=1e-8)


def test_relu_s_correlation_map():
    """c ↦ (√(1 − c²) + (π − arccos c) c)/π."""
    c = 0.3
    assert relu_correlation(c) == pytest.approx((math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi)
    assert relu_correlation(1.0, 50) == 1.0


def test_batch_normalisation():
    assert relu_batch_norm_rate() == pytest.approx(1.467, abs=5e-4)
    assert linear_batch_norm_rate(4) == 2.0
    with pytest.raises(ValueError, match="at least 4"):
        linear_batch_norm_rate(3)


def test_glorot_and_bengio():
    """n_i Var W = 1 forward, n_{i+1} Var W = 1 backward, their compromise, and U[−1/√n, 1/√n]."""
    assert glorot_variance(300, 300) == 1 / 300
    assert glorot_variance(100, 300) == 1 / 200
    draws = torch.empty(1000, 1000, dtype=torch.float64).uniform_(
        -1 / math.sqrt(1000), 1 / math.sqrt(1000), generator=torch.Generator().manual_seed(0)
    )
    assert 1000 * draws.var().item() == pytest.approx(STANDARD_SIGMA_W2, rel=0.01)
    assert math.sqrt(STANDARD_SIGMA_W2) == pytest.approx(0.5774, abs=5e-5)


def test_he_et_al():
    """2/((1 + a²)n); VGG-B's layers at std 0.01, where He's would be .059, .042, .029, .021, lose 1.7·10⁴."""
    assert he_variance(10) == 0.2
    assert he_variance(10, 0.25) == pytest.approx(2 / (1.0625 * 10))
    stds = [math.sqrt(he_variance(9 * filters)) for filters in (64, 128, 256, 512)]
    assert stds == pytest.approx([0.059, 0.042, 0.029, 0.021], abs=6e-4)
    layers = [9 * filters for filters in (64, 128, 128, 256, 256, 512, 512, 512, 512)]
    assert 1 / attenuation(0.01, layers) == pytest.approx(1.7e4, rel=0.03)
    assert pytest.approx(1.7e4, rel=0.01) == 5.9 * 4.2**2 * 2.9**2 * 2.1**4


@pytest.mark.parametrize("keep", [0.5, 0.9, 1.0])
def test_alpha_dropout_keeps_mean_and_variance(keep):
    assert pytest.approx(-1.7580993408473766) == SELU_DROPPED
    scale, shift = alpha_dropout(keep)
    mean = keep * 0 + (1 - keep) * SELU_DROPPED
    square = keep * 1 + (1 - keep) * SELU_DROPPED**2
    assert scale * mean + shift == pytest.approx(0, abs=1e-12)
    assert scale**2 * (square - mean**2) == pytest.approx(1)


def test_shortcuts():
    assert residual_growth(10) == 1024
    assert lambda_shortcuts([0.5, 0.5, 2.0]) == 0.5
