"""Whole networks: depth without overflow, and what `propagate` makes of its arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from gradflow.theory.closed_forms import STANDARD_SIGMA_W2
from gradflow.theory.fixed_point import fixed_point
from gradflow.theory.law import Signal, Step
from gradflow.theory.laws import Plain, PreactResidual, Residual, ReZero
from gradflow.theory.profile import propagate


def identity(z):
    return z


@pytest.mark.parametrize(
    ("phi", "sigma_w2", "factor"),
    [
        (identity, STANDARD_SIGMA_W2, math.sqrt(1 / 3)),  # Glorot & Bengio 2010: 0.5774
        (torch.relu, 2.0, 1.0),  # He et al. 2015
        (torch.relu, 1.0, math.sqrt(1 / 2)),  # Xavier: .7071
        (torch.relu, 5.0, math.sqrt(2.5)),
    ],
)
def test_depth_without_overflow(phi, sigma_w2, factor):
    depth = 10_000 if sigma_w2 == 1.0 else 3_000
    profile = propagate([Plain(phi, sigma_w2)] * depth, Signal(1.0, 0.3))
    blocks = np.arange(depth)
    assert profile.log10_delta == pytest.approx((depth - 1 - blocks) * math.log10(factor), rel=1e-10, abs=1e-9)
    assert profile.log10_p == pytest.approx((blocks + 1) * 2 * math.log10(factor), rel=1e-10, abs=1e-9)
    assert profile.log10_delta_stem == pytest.approx(depth * math.log10(factor), rel=1e-10, abs=1e-9)
    assert profile.chi == pytest.approx(factor**2, rel=1e-12)
    assert not np.isnan(profile.grad).any()


def test_ten_thousand_layers_of_tanh_and_of_residuals():
    chaotic = propagate([Plain(torch.tanh, 4.0, 0.05)] * 10_000, Signal(1.0, 0.3), 300)
    assert chaotic.log10_delta[1000] == pytest.approx(8999 * math.log10(fixed_point(torch.tanh, 4.0, 0.05).chi) / 2)
    assert chaotic.delta[0] == math.inf
    doubling = propagate([PreactResidual(torch.relu, 2.0)] * 3_000, Signal(1.0, 0.3))
    assert doubling.log10_p[-1] == pytest.approx(3_000 * math.log10(2), rel=1e-10)
    assert np.isfinite(doubling.log10_grad).all()


def test_a_rescaled_population_is_the_same_one():
    """What leaves the range is scaled back, under which a ReLU network does not change."""
    law = Residual(torch.relu, 9.0, shortcut_scale=3.0)
    small = propagate([law] * 90, Signal(1e-90, 0.3))
    large = propagate([law] * 90, Signal(1e90, 0.3))
    assert large.log10_p - 180 == pytest.approx(small.log10_p, abs=0.02)
    assert large.log10_delta == pytest.approx(small.log10_delta, abs=0.02)


@dataclass(frozen=True)
class Counting:
    """A law that counts how often it is asked."""

    asked: list[int]

    def step(self, signal: Signal) -> Step:
        self.asked.append(1)
        return Plain(torch.tanh, 1.3, 0.05).step(signal)

    def __hash__(self) -> int:
        return id(self)


def test_converged_signals_are_computed_once():
    law = Counting([])
    propagate([law] * 5000, Signal(1.0, 0.3))
    assert len(law.asked) < 300


def test_widths_and_biases():
    """With biases ‖∂L/∂(W, b)‖² = n‖δ‖²p + ‖δ‖²; a block of another width weighs its own fan_in."""
    laws = [Plain(torch.tanh, 1.5, 0.2), Plain(torch.tanh, 1.5, 0.2)]
    steps = [laws[0].step(Signal(1.0))]
    steps.append(laws[1].step(steps[0].signal))
    own = [widths * step.weight_gradient + step.bias_gradient for widths, step in zip((30, 10), steps, strict=True)]
    profile = propagate(laws, Signal(1.0), (30, 10))
    assert profile.grad[0] ** 2 == pytest.approx(own[0] * steps[1].chi / own[1])
    without = propagate(laws, Signal(1.0), (30, 10), biases=False)
    own = [widths * step.weight_gradient for widths, step in zip((30, 10), steps, strict=True)]
    assert without.grad[0] ** 2 == pytest.approx(own[0] * steps[1].chi / own[1])
    assert profile.delta[0] ** 2 == pytest.approx(steps[1].chi)
    assert profile.log10_delta_stem * 2 == pytest.approx(math.log10(steps[0].chi * steps[1].chi))


def test_delta_is_the_product_of_chi():
    laws = [Plain(torch.tanh, w, 0.1) for w in (0.5, 3.0, 1.0)] + [ReZero(torch.relu, 2.0, alpha=0.5)]
    profile = propagate(laws, Signal(0.8, 0.3))
    assert profile.delta**2 == pytest.approx([np.prod(profile.chi[block + 1 :]) for block in range(4)])
    assert profile.q[0] == pytest.approx(0.5 * 0.8 + 0.1)


def test_dead_networks_have_no_gradient():
    profile = propagate([Plain(torch.relu, 0.0)] * 3, Signal(1.0, 0.5))
    assert profile.delta.tolist() == [0.0, 0.0, 1.0]
    assert profile.p.tolist() == [0.0, 0.0, 0.0]


def test_equal_laws_are_equal():
    assert Plain(torch.relu, 2.0) == Plain(torch.relu, 2.0)
    assert replace(Plain(torch.relu, 2.0), sigma_b2=0.1) != Plain(torch.relu, 2.0)


@pytest.mark.parametrize(
    ("laws", "keys", "message"),
    [
        ([], {}, "at least one law"),
        ([Plain(torch.relu, 2.0)], {"widths": [1, 2]}, "a width for each"),
        ([Plain(torch.relu, 2.0)], {"batch": 0}, "batch=0"),
    ],
)
def test_arguments_that_do_not_go_together(laws, keys, message):
    with pytest.raises(ValueError, match=message):
        propagate(laws, Signal(1.0), **keys)
