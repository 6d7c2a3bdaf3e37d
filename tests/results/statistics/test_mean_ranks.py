"""Ranks, Friedman's test and the critical difference against SciPy, and a published example."""

import math

import numpy as np
import pytest
from scipy import stats

from gradflow.results.statistics.ranks import rank, studentized_range

# Demšar 2006, table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on fourteen data sets.
DEMSAR = [
    *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
    *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
    *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
    *([1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
    *([0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]),
]


def test_the_example_of_demsar():
    """Average ranks 3.143, 2.000, 2.893, 1.964; χ²_F = 9.28 without correction for ties; CD = 1.25 at 0.05."""
    ranks = rank(DEMSAR)
    assert ranks.mean == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=6e-4)
    assert ranks.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert ranks.blocks == 14


@pytest.mark.parametrize("decimals", [6, 1], ids=["distinct", "ties"])
def test_friedman_is_scipys(decimals):
    scores = np.round(np.random.default_rng(0).normal(0, 0.3, (9, 5)) + np.arange(5) * 0.1, decimals)
    theirs = stats.friedmanchisquare(*scores.T)
    ours = rank(scores.tolist())
    assert (ours.chi2, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert ours.mean == pytest.approx(stats.rankdata(-scores, axis=1).mean(axis=0).tolist())


@pytest.mark.parametrize("count", [2, 3, 10, 40])
def test_the_studentized_range_is_scipys(count):
    assert studentized_range(count) == pytest.approx(stats.studentized_range.ppf(0.95, count, np.inf), rel=1e-6)


def test_groups_are_those_within_the_critical_difference():
    """CD of 3 techniques over 20 blocks is 0.74: the middle one cannot be told from either."""
    scores = [[3.0, 2.0, 1.0]] * 10 + [[2.0, 3.0, 1.0]] * 4 + [[2.0, 1.0, 3.0]] * 6
    ranks = rank(scores)
    assert ranks.mean == pytest.approx([1.5, 2.1, 2.4])
    assert 0.6 < ranks.critical < 0.9
    assert ranks.groups == [[0, 1], [1, 2]]


def test_where_all_are_tied_there_is_nothing_to_test():
    ranks = rank([[1.0, 1.0], [0.5, 0.5]])
    assert (ranks.chi2, ranks.p, ranks.groups) == (None, None, [[0, 1]])
