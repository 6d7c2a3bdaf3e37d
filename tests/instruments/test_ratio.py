"""First block ÷ last block: closed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradflow.instruments.ratio import GradientRatio, gradient_ratio

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ([], [], GradientRatio(None, 0, 0, 0)),
        ([2.0], [8.0], GradientRatio(0.25, 1, 0, 0)),
        ([1e-3, 1e-5], [1.0, 1.0], GradientRatio(1e-4, 2, 0, 0)),  # the geometric mean, not 5.05e-4
        ([1.0, 4.0], [4.0, 1.0], GradientRatio(1.0, 2, 0, 0)),
        ([0.0, 0.0], [1.0, 2.0], GradientRatio(0.0, 2, 2, 0)),  # nothing ever arrives
        ([0.0, 1e-2], [1.0, 1.0], GradientRatio(1e-2, 2, 1, 0)),
        ([0.0], [0.0], GradientRatio(None, 1, 1, 0)),  # 0 ÷ 0
        ([1.0], [0.0], GradientRatio(None, 1, 0, 0)),
        ([NAN, 1e-2], [1.0, 1.0], GradientRatio(1e-2, 2, 0, 1)),
        ([1.0, 1e-2], [INF, 1.0], GradientRatio(1e-2, 2, 0, 1)),
        ([NAN, INF], [NAN, 1.0], GradientRatio(None, 2, 0, 2)),
        ([0.0, NAN], [1.0, 1.0], GradientRatio(0.0, 2, 1, 1)),
        ([1e-200], [1e100], GradientRatio(1e-300, 1, 0, 0)),
        ([1e-280], [1e20], GradientRatio(1e-300, 1, 0, 0)),
    ],
)
def test_closed_cases(first, last, expected):
    found = gradient_ratio(first, last)
    assert found.value == (None if expected.value is None else pytest.approx(expected.value, rel=1e-9, abs=0))
    assert (found.steps, found.zero_steps, found.nonfinite_steps) == (
        expected.steps,
        expected.zero_steps,
        expected.nonfinite_steps,
    )


def test_against_the_definition():
    a, b = np.random.default_rng(0).lognormal(0, 20, (2, 50))
    assert gradient_ratio(a, b).value == pytest.approx(math.exp(np.mean(np.log(a / b))), rel=1e-9)


def test_the_ratio_turned_round_is_its_inverse():
    a, b = np.random.default_rng(1).lognormal(0, 5, (2, 20))
    assert gradient_ratio(a, b).value * gradient_ratio(b, a).value == pytest.approx(1, rel=1e-9)
