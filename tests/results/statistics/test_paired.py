"""Paired tests, Holm's correction and effect sizes against SciPy's."""

import itertools

import numpy as np
import pytest
from scipy import stats

from gradflow.results.statistics.paired import (
    APPROXIMATE,
    SIGNED_RANK,
    STUDENT,
    doubled_ranks,
    effect_size,
    holm,
    paired_test,
    signed_rank,
)

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("count", [6, 9, 20, 50])
def test_the_exact_signed_rank_test_is_scipys(count):
    for _ in range(5):
        differences = RANDOM.normal(0.3, 1, count)
        ours = signed_rank(differences.tolist())
        assert ours.test == SIGNED_RANK
        assert ours.p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_with_ties_it_is_exact_over_all_signs():
    """Every sign of every difference, each as likely: what the definition says, counted out."""
    differences = [0.2, 0.2, -0.2, 0.5, 0.5, 0.9, -0.1, 0.0]
    sizes = [abs(d) for d in differences if d]
    ranks = stats.rankdata(sizes)
    seen = sum(r for r, d in zip(ranks, [d for d in differences if d], strict=True) if d > 0)
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=7)]
    lower = min(seen, ranks.sum() - seen)
    assert signed_rank(differences).p == pytest.approx(min(1, 2 * np.mean([s <= lower for s in sums])), rel=1e-12)


def test_many_pairs_take_the_normal_approximation_of_scipy():
    differences = np.round(RANDOM.normal(0.1, 1, 300), 1)  # with ties
    ours = signed_rank(differences.tolist())
    theirs = stats.wilcoxon(differences[differences != 0], method="asymptotic", correction=False)
    assert (ours.test, ours.p) == (APPROXIMATE, pytest.approx(theirs.pvalue, rel=1e-9))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_pairs_take_the_t_test_of_scipy(count):
    a, b = RANDOM.normal(0, 1, count), RANDOM.normal(0.5, 1, count)
    ours = paired_test((b - a).tolist())
    assert (ours.test, ours.p) == (STUDENT, pytest.approx(stats.ttest_rel(b, a).pvalue, rel=1e-9))


@pytest.mark.parametrize(
    ("pairs", "comparisons", "test"),
    [(5, 1, STUDENT), (6, 1, SIGNED_RANK), (7, 6, STUDENT), (8, 6, SIGNED_RANK), (51, 1, APPROXIMATE)],
)
def test_the_signed_rank_test_is_used_where_it_can_be_significant(pairs, comparisons, test):
    """The smallest p of n pairs is 2^(1−n), and it must pass Holm's first step."""
    same_sign = [float(i) for i in range(1, pairs + 1)]
    tested = paired_test(same_sign, comparisons)
    assert tested.test == test
    if test == SIGNED_RANK:
        assert tested.p == 2.0 ** (1 - pairs) <= 0.05 / comparisons


@pytest.mark.parametrize(
    ("differences", "p"),
    [([], None), ([0.1], None), ([0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], None), ([0.95 - 0.9, 0.96 - 0.91], None)],
    ids=str,
)
def test_what_cannot_be_tested_has_no_p(differences, p):
    """Differences that are equal but for the rounding of floats would be infinitely significant."""
    assert paired_test(differences).p == p


@pytest.mark.parametrize("seed", range(3))
def test_holm_is_step_down(seed):
    ps = np.random.default_rng(seed).uniform(0, 0.2, 6).tolist()
    corrected = holm(ps)
    for level in (0.01, 0.05, 0.1, 0.3):  # by the definition: reject while p(i) ≤ level / (m − i)
        rejected = set()
        for step, place in enumerate(np.argsort(ps)):
            if ps[place] > level / (len(ps) - step):
                break
            rejected.add(place)
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected


def test_the_effect_size_is_the_t_statistic_over_the_root_of_n():
    a, b = RANDOM.normal(0, 1, 12), RANDOM.normal(0.5, 1, 12)
    t = stats.ttest_rel(b, a).statistic
    assert effect_size((b - a).tolist()) == pytest.approx(t / np.sqrt(12), rel=1e-9)
    assert effect_size([0.5]) is effect_size([0.95 - 0.9, 0.96 - 0.91]) is None


def test_ranks_are_scipys():
    values = RANDOM.integers(0, 8, 30).astype(float)
    assert [rank / 2 for rank in doubled_ranks(values.tolist())] == stats.rankdata(values).tolist()


def test_of_equal_techniques_five_in_a_hundred_are_significant():
    """Under no difference at all neither test rejects more often than it says."""
    random = np.random.default_rng(1)
    for count in (3, 8):
        rejected = np.mean([paired_test(random.normal(0, 1, count).tolist()).p <= 0.05 for _ in range(2000)])
        assert rejected < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_single_pair_tests_nothing_even_without_a_difference():
    assert paired_test([0.0]).p is None
    assert paired_test([0.5]).p is None
    assert paired_test([0.0, 0.0]).p == 1.0
