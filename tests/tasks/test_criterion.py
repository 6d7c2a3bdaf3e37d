"""When a task counts as solved."""

from __future__ import annotations

import math

import pytest

from gradflow.tasks.criterion import Criterion

ERROR, ACCURACY = Criterion("mse", 0.05, at_most=True), Criterion("accuracy", 0.99, at_most=False)


@pytest.mark.parametrize(
    ("criterion", "value", "met"),
    [
        (ERROR, 0.049, True),
        (ERROR, 0.05, True),
        (ERROR, 0.051, False),
        (ERROR, math.nan, False),
        (ACCURACY, 1.0, True),
        (ACCURACY, 1980 / 2000, True),
        (ACCURACY, 1979 / 2000, False),
        (ACCURACY, math.nan, False),
    ],
)
def test_a_figure_must_reach_the_bound(criterion, value, met):
    assert criterion.met({criterion.figure: value, "loss": 0.0}) is met


def test_words():
    assert [str(ERROR), str(ACCURACY), str(Criterion("wrong", 0.0, at_most=True))] == [
        "mse ≤ 0.05",
        "accuracy ≥ 0.99",
        "wrong ≤ 0",
    ]


def test_a_figure_that_is_not_scored_is_an_error_of_ours():
    with pytest.raises(KeyError):
        ERROR.met({"accuracy": 1.0})
