"""Fixed points, depth scales and the critical line against the numbers that papers print."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.nn import functional

from gradflow.theory.closed_forms import RELU_DECORRELATION, relu_correlation
from gradflow.theory.critical import critical_line, critical_sigma_w2, phase_diagram
from gradflow.theory.fixed_point import fixed_point
from gradflow.theory.law import Signal
from gradflow.theory.laws import Plain
from gradflow.theory.profile import propagate
from gradflow.theory.response import alone

SCHOENHOLZ = """
0.5 .0876 .4320 1 1.19 7
1.0 .1936 .7590 1 3.63 22
1.3 .3153 .8802 1 7.83 47
1.5 .4180 .9386 1 15.8 95
1.7 .5331 .9867 1 74.9 450
1.9 .6571 1.0285 .838 39.4 236
2.0 .7218 1.0477 .744 25.2 151
2.5 1.0640 1.1335 .447 11.8 71
3.0 1.4280 1.2089 .299 9.05 54
4.0 2.1955 1.3424 .165 6.98 42
"""


def printed(text: str) -> object:
    """Equal in every digit printed."""
    digits = len(text.partition(".")[2])
    return pytest.approx(float(text), abs=0.5001 * 10**-digits)


@pytest.mark.parametrize("row", SCHOENHOLZ.split("\n")[1:-1])
def test_tanh_with_biases(row):
    """σ_b² = 0.05, every digit of q*, χ₁, c*, ξ_c and 6 ξ_c."""
    sigma_w2, *expected = row.split()
    found = fixed_point(torch.tanh, float(sigma_w2), 0.05)
    assert [found.q, found.chi, found.c, found.xi_c, found.trainable_depth] == [printed(each) for each in expected]
    assert found.error < 1e-12


@pytest.mark.parametrize(
    ("sigma_w", "q", "chi"),
    [(1.3, "0.4090", "1.0644"), (1.5, "0.7934", "1.1393"), (2.0, "2.1215", "1.3627"), (4.0, "12.50", "2.377")],
)
def test_chaotic_tanh_without_biases(sigma_w, q, chi):
    found = fixed_point(torch.tanh, sigma_w**2)
    assert (found.q, found.chi) == (printed(q), printed(chi))
    assert found.c == 0.0
    weight = math.sqrt(found.q)
    (by_quad, _) = quad(
        lambda a: math.cosh(weight * a) ** -4 * math.exp(-a * a / 2) / math.sqrt(2 * math.pi), -12, 12, points=[0.0]
    )
    assert found.chi == pytest.approx(sigma_w**2 * by_quad, rel=1e-9)


@pytest.mark.parametrize("sigma_w", [0.3, 0.9, 1.0])
def test_quiet_tanh_without_biases(sigma_w):
    found = fixed_point(torch.tanh, sigma_w**2)
    assert (found.q, found.c) == (0.0, 1.0)
    assert found.chi == pytest.approx(sigma_w**2, rel=1e-12)
    assert found.xi_c == (math.inf if sigma_w == 1 else pytest.approx(-1 / math.log(sigma_w**2), rel=1e-9))


def test_relu():
    critical = fixed_point(torch.relu, 2.0)
    assert critical.scale_free
    assert (critical.chi, critical.c) == (pytest.approx(1.0), 1.0)
    assert critical.xi_c == critical.xi_gradient == critical.xi_q == critical.trainable_depth == math.inf
    quiet = fixed_point(torch.relu, 1.2, 0.1)
    assert quiet.q == pytest.approx(0.1 / 0.4, rel=1e-12)
    assert quiet.xi_gradient == pytest.approx(-1 / math.log(0.6), rel=1e-9)
    loud = fixed_point(torch.relu, 3.0, 0.1)
    assert (loud.q, loud.chi, loud.scale_free) == (math.inf, pytest.approx(1.5), False)
    assert loud.xi_gradient < 0
    assert fixed_point(torch.relu, 1.0).q == 0.0
    assert fixed_point(torch.relu, 2.0, 0.1).q == math.inf


def test_a_constant_has_no_gradient():
    found = fixed_point(torch.ones_like, 0.5, 0.2)
    assert (found.q, found.chi, found.xi_q) == (pytest.approx(0.7), 0.0, 0.0)


def test_linear():
    found = fixed_point(lambda z: z, 0.5, 0.3)
    assert (found.q, found.chi, found.growth) == (pytest.approx(0.6), pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize(
    ("sigma_w2", "factor"), [(1 / 3, "0.1414"), (1.0, "0.2360"), (4.0, "0.414"), (16.0, "0.632"), (100.0, "0.993")]
)
def test_vanishing_of_sigmoid(sigma_w2, factor):
    found = fixed_point(torch.sigmoid, sigma_w2)
    if factor == "0.2360":
        assert math.sqrt(found.chi) == pytest.approx(0.2360, abs=6e-5)
    else:
        assert math.sqrt(found.chi) == printed(factor)
    assert found.chi == pytest.approx(sigma_w2 * alone(torch.sigmoid, found.q).slope_square)
    assert found.q == pytest.approx(sigma_w2 * alone(torch.sigmoid, found.q).square)


def test_selu():
    """Klambauer et al. 2017: mean 0 and variance 1 stay; χ₁ = 1.0716, E φ′ = 0.9852 there."""
    one = alone(functional.selu, 1.0)
    assert (one.mean, one.square) == (pytest.approx(0, abs=1e-14), pytest.approx(1, abs=1e-14))
    assert (one.slope_square, one.slope) == (printed("1.0716"), printed("0.9852"))
    assert fixed_point(functional.selu, 1.0).q == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("phi", "square"),
    [
        (torch.tanh, ".39429"),
        (functional.elu, ".64495"),
        (functional.gelu, ".42522"),
        (functional.silu, ".35578"),
    ],
)
def test_gains(phi, square):
    assert alone(phi, 1.0).square == printed(square)


def test_more_gains():
    assert 1 / alone(torch.tanh, 1.0).square == printed("2.536")
    assert 1 / alone(functional.elu, 1.0).square == printed("1.5505")
    chi = alone(functional.elu, 1.0).slope_square
    assert chi == printed("0.668")
    assert 1 / alone(functional.leaky_relu, 1.0).square == printed("1.9998")


def test_depth_scales_are_those_of_the_iterated_maps():
    """Near the fixed point q − q* and c − c* shrink by e^{−1/ξ} per layer."""
    found = fixed_point(torch.tanh, 2.5, 0.05)
    profile = propagate([Plain(torch.tanh, 2.5, 0.05)] * 90, Signal(0.5, 0.9))
    off = np.abs(profile.q - found.q)[8:13]
    assert off[1:] / off[:-1] == pytest.approx(math.exp(-1 / found.xi_q), rel=0.02)
    c = (2.5 * profile.p * profile.c + 0.05) / found.q  # of pre-activations
    off = np.abs(c - found.c)[40:60]
    assert off[1:] / off[:-1] == pytest.approx(math.exp(-1 / found.xi_c), rel=0.01)


def test_critical_points():
    assert critical_sigma_w2(torch.tanh, 0.05) == printed("1.7610")
    assert critical_sigma_w2(torch.tanh, 0.2) == printed("2.2852")
    assert critical_sigma_w2(torch.tanh) == pytest.approx(1.0, rel=1e-9)
    assert fixed_point(torch.tanh, critical_sigma_w2(torch.tanh, 0.05), 0.05).q == printed("0.5700")
    assert critical_sigma_w2(torch.relu) == pytest.approx(2.0, rel=1e-12)
    assert critical_sigma_w2(torch.erf) == pytest.approx(math.pi / 4, rel=1e-9)
    for sigma_b2 in (0.01, 0.3):
        for phi in (torch.tanh, functional.elu, functional.softsign):
            sigma_w2 = critical_sigma_w2(phi, sigma_b2)
            assert fixed_point(phi, sigma_w2, sigma_b2).chi == pytest.approx(1.0, rel=1e-7)
    with pytest.raises(ValueError, match="no sigma_w2"):
        critical_sigma_w2(functional.gelu)
    with pytest.raises(ValueError, match="at least 0"):
        critical_sigma_w2(torch.tanh, -0.1)
    line = critical_line(torch.tanh, [0.0, 0.05, 0.2])
    assert line == pytest.approx([1.0, 1.7610, 2.2852], abs=5e-5)
    assert np.isnan(critical_line(functional.gelu, [0.0])).all()


@pytest.mark.parametrize("phi", [torch.tanh, torch.relu, functional.elu])
def test_phase_diagram(phi):
    w, b = np.array([0.5, 1.1, 1.7, 2.6, 4.0]), np.array([0.0, 0.05, 0.4])
    diagram = phase_diagram(phi, w, b)
    for i, sigma_w2 in enumerate(w):
        for j, sigma_b2 in enumerate(b):
            found = fixed_point(phi, sigma_w2, sigma_b2)
            assert diagram.q[i, j] == pytest.approx(found.q, rel=1e-5)
            assert diagram.chi[i, j] == pytest.approx(found.chi, rel=1e-5)
            assert diagram.c[i, j] == pytest.approx(found.c, abs=1e-4)
            assert diagram.xi_c[i, j] == pytest.approx(found.xi_c, rel=1e-3)
    with pytest.raises(ValueError, match="at least 0"):
        phase_diagram(phi, [-1.0], [0.0])


def test_decorrelation_of_relu_by_a_power():
    """1 − c → (9π²/2)/l²: 35.8 at l = 100, 43.7 at 2000, 44.4 in the limit; by the law and by the closed form alike."""
    assert printed("44.41") == RELU_DECORRELATION
    profile = propagate([Plain(torch.relu, 2.0)] * 2000, Signal(1.0, 0.0))
    for layers, expected in ((100, 35.8), (2000, 43.7)):
        exact = 1 - relu_correlation(0.0, layers)
        assert exact * layers**2 == pytest.approx(expected, abs=0.15)
        assert 1 - profile.c[layers - 1] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(("sigma_w2", "keep"), [(1.3, 0.9), (2.5, 0.6), (1.7, 0.999)])
def test_dropout(sigma_w2, keep):
    """Schoenholz et al. 2017, section 4: the iterated map's c*, from equal inputs; ξ_c is bounded."""
    found = fixed_point(torch.tanh, sigma_w2, 0.05, keep=keep)
    profile = propagate([Plain(torch.tanh, sigma_w2, 0.05, keep=keep)] * 900, Signal(1.0, 1.0))
    c = (sigma_w2 * profile.p * profile.c + 0.05) / found.q
    assert profile.q[-1] == pytest.approx(found.q, rel=1e-8)
    assert c[-1] == pytest.approx(found.c, abs=1e-6)
    assert profile.chi[-1] == pytest.approx(found.chi, rel=1e-8)
    assert found.c < 1
    assert found.xi_c < fixed_point(torch.tanh, sigma_w2, 0.05).xi_c
    with pytest.raises(ValueError, match="keep=0"):
        fixed_point(torch.tanh, sigma_w2, keep=0.0)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(-1.0, 0.0), (1.0, math.inf), (math.nan, 0.0)])
def test_variances_that_are_none(sigma_w2, sigma_b2):
    with pytest.raises(ValueError, match="finite and at least 0"):
        fixed_point(torch.tanh, sigma_w2, sigma_b2)
