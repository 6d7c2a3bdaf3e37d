"""Horizons and decays of curves whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradflow.instruments.memory_horizon import Horizon, decay, memory_horizon

LAGS = np.arange(101)


@pytest.mark.parametrize("spacing", [1, 7, 16])
def test_an_exponential_has_its_horizon_however_coarsely_it_is_measured(spacing):
    lags = LAGS[::spacing]
    found = memory_horizon(lags, 3.0 * 0.8**lags)
    assert found.reached
    assert found.steps == pytest.approx(math.log(100) / -math.log(0.8), rel=1e-12)
    assert memory_horizon(lags, 0.8**lags, 0.001).steps == pytest.approx(1.5 * found.steps)


def test_the_first_crossing_counts_and_the_last_step_is_the_measure():
    curve = np.array([1.0, 5.0, 0.5, 0.005, 1.0, 1e-6])
    found = memory_horizon(np.arange(6), curve)
    assert 2 < found.steps < 3
    assert found.steps == pytest.approx(2 + math.log(50) / math.log(100))


def test_a_curve_that_never_falls_is_at_least_as_long_as_the_sequence():
    assert memory_horizon(LAGS, 0.99**LAGS) == Horizon(101.0, False)
    assert str(memory_horizon(LAGS, 0.99**LAGS)) == "≥ 101"


def test_zeros_and_what_is_not_finite():
    assert memory_horizon(np.arange(4), np.array([1.0, 1.0, 0.0, 0.0])) == Horizon(2.0, True)
    assert memory_horizon(np.arange(3), np.array([0.0, 1.0, 1.0])) is None
    assert memory_horizon(np.arange(3), np.array([1.0, math.nan, 1e-9])) is None
    assert memory_horizon(np.arange(3), np.array([1.0, 1e-9, math.nan])).reached
    with pytest.raises(ValueError, match="begin with 0"):
        memory_horizon(np.arange(1, 3), np.ones(2))
    with pytest.raises(ValueError, match="share=1"):
        memory_horizon(LAGS, 0.5**LAGS, 1)


def test_the_decay_of_exponentials_with_a_transient():
    curves = np.stack([np.exp(rate * LAGS) for rate in (-0.1, -0.2, -0.3)], 1)
    curves[:25] = 1.0  # the nearest quarter does not count
    found = decay(LAGS, curves)
    assert found.rate == pytest.approx(-0.2, rel=1e-12)
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # Student's t, 2 degrees of freedom, from a table: 4.303
    assert (found.low, found.high) == pytest.approx((-0.2 - half, -0.2 + half), rel=1e-9)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        walks = generator.normal(-0.05, 0.3, (101, 8)).cumsum(0)  # autocorrelated, as gradients through time are
        found = decay(LAGS, np.exp(walks))
        hits += found.low <= -0.05 <= found.high
    assert 0.92 < hits / 400 < 0.98


def test_a_fit_ends_where_numbers_do():
    curve = np.exp(-0.5 * LAGS)[:, None]
    curve[60:] = 0
    found = decay(LAGS, curve)
    assert found.rate == pytest.approx(-0.5, rel=1e-12)
    assert math.isnan(found.low)
    assert decay(LAGS, np.zeros((101, 2))) is None
