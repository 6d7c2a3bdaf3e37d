"""The statistics of a cell against SciPy's."""

import math

import numpy as np
import pytest
from scipy import stats

from gradflow.results.estimate import estimate, geometric_mean, mean_interval
from gradflow.results.statistics.interval import Interval


@pytest.mark.parametrize(
    "values",
    [[0.0, 1.0], [0.953, 0.931, 0.972], list(np.random.default_rng(0).normal(3, 2, 10)), [5.0] * 4, [1e-9, 3e-9]],
    ids=["two", "three", "ten", "equal", "tiny"],
)
def test_the_interval_is_student_t(values):
    shown = mean_interval(values)
    assert shown.count == len(values)
    assert shown.value == pytest.approx(np.mean(values), rel=1e-14)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error) if error else (values[0],) * 2
    assert (shown.low, shown.high) == pytest.approx((low, high), rel=1e-12, abs=1e-15)


def test_the_interval_holds_the_mean_in_95_of_100_experiments():
    draws = np.random.default_rng(1).normal(7, 3, (4000, 3))
    inside = sum(shown.low <= 7 <= shown.high for shown in map(mean_interval, draws.tolist()))
    assert abs(inside / 4000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_seed_has_no_interval_and_none_has_no_mean():
    assert mean_interval([0.4]) == Interval(0.4, None, None, 1, True)
    assert mean_interval([]) is None


@pytest.mark.parametrize(
    "values", [[1e-300, 1e300], [2.0, 8.0], [1.6e-25, 2e-8, 1.0], [0.3]], ids=["far", "two", "three", "one"]
)
def test_the_geometric_mean_is_scipys_and_does_not_overflow(values):
    assert geometric_mean(values) == pytest.approx(stats.gmean(values), rel=1e-12)


def test_a_gradient_that_is_exactly_zero_makes_the_geometric_mean_zero():
    assert geometric_mean([0.0, 5.0]) == 0.0
    assert geometric_mean([]) is None


def test_the_range_is_the_smallest_and_the_largest_value_about_the_mean():
    assert estimate("range", [[0.25, 0.75], [0.5]]) == Interval(0.5, 0.25, 0.75, 3)
    assert estimate("range", [[0.25]]) == Interval(0.25, None, None, 1)
    assert estimate("range", []) is None
