"""Summaries and the stratified bootstrap against rliable and SciPy on the same arrays."""

import numpy as np
import pytest
from rliable import library, metrics
from scipy import stats

from gradflow.results.estimate import estimate, point
from gradflow.results.statistics import summary
from gradflow.results.statistics.improvement import probability_of_improvement
from gradflow.results.statistics.interval import Interval
from gradflow.results.statistics.resample import bootstrap, by_size, resamples

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(0.6, 0.3, (5, 7))  # runs × tasks, as rliable has them
GOLDEN = (0.4666666666666666, 0.2833333333333334, 0.6666666666666666)
THEIRS = {
    summary.iqm: metrics.aggregate_iqm,
    summary.mean: metrics.aggregate_mean,
    summary.median_of_means: metrics.aggregate_median,
    summary.optimality_gap: metrics.aggregate_optimality_gap,
}


def wins(a, b):
    """Their probability of improvement, without SciPy's test for each of thousands of resamples."""
    return np.mean((a[:, None] > b[None]) + (a[:, None] == b[None]) / 2)


@pytest.fixture(autouse=True)
def _seeded():
    """rliable draws from NumPy's global generator."""
    np.random.seed(1)


def strata(scores):
    return scores.T.tolist()


@pytest.mark.parametrize(("ours", "theirs"), THEIRS.items(), ids=lambda f: f.__name__)
def test_a_summary_is_rliables(ours, theirs):
    assert float(ours(by_size(strata(SCORES)))) == pytest.approx(theirs(SCORES), rel=1e-12)


@pytest.mark.parametrize("count", range(1, 14))
def test_the_iqm_is_scipys_trimmed_mean(count):
    values = RANDOM.normal(0, 1, count)
    assert float(summary.iqm(by_size([values]))) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-12)
    assert point("iqm", values.tolist()) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-12)
    assert float(summary.median(by_size([values]))) == pytest.approx(np.median(values), rel=1e-12)
    assert point("median", values.tolist()) == pytest.approx(np.median(values), rel=1e-12)
    assert point("mean", values.tolist()) == pytest.approx(np.mean(values), rel=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), THEIRS.items(), ids=lambda f: f.__name__)
def test_the_interval_is_rliables_but_for_the_draws(ours, theirs):
    """Both draw at random: the ends agree to a few per cent of the interval's width."""
    _, theirs_ = library.get_interval_estimates({"a": SCORES}, lambda scores: np.array([theirs(scores)]), reps=2000)
    low, high = theirs_["a"].ravel()
    shown = bootstrap(strata(SCORES), ours)
    assert (shown.low, shown.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_in_one_stratum_it_is_scipys_percentile_bootstrap():
    values = RANDOM.normal(0, 1, 25)
    shown = bootstrap([values.tolist()], summary.median, draws=9999)
    theirs = stats.bootstrap((values,), np.median, method="percentile", random_state=1).confidence_interval
    assert (shown.low, shown.high) == pytest.approx(tuple(theirs), abs=0.08 * (theirs.high - theirs.low))


def test_the_profile_is_rliables():
    taus = np.linspace(0, 1.2, 13)
    theirs, bands = library.create_performance_profile({"a": SCORES}, taus, reps=1000)
    for i, tau in enumerate(taus):
        shown = bootstrap(strata(SCORES), summary.share_above(tau))
        assert shown.value == pytest.approx(theirs["a"][i], rel=1e-12)
        assert (shown.low, shown.high) == pytest.approx((bands["a"][0][i], bands["a"][1][i]), abs=0.0572)  # two runs


@pytest.mark.parametrize("tied", [False, True])
def test_the_probability_of_improvement_is_rliables(tied):
    x, y = RANDOM.normal(0.6, 0.2, (4, 6)), RANDOM.normal(0.5, 0.2, (5, 6))
    if tied:
        x, y = np.round(x, 1), np.round(y, 1)
    shown = probability_of_improvement(strata(x), strata(y))
    assert shown.value == pytest.approx(metrics.probability_of_improvement(x, y), rel=1e-12)
    assert shown.value == pytest.approx(wins(x, y), rel=1e-12)
    _, theirs = library.get_interval_estimates({"a": [x, y]}, lambda a, b: np.array([wins(a, b)]), reps=2000)
    low, high = theirs["a"].ravel()
    assert (shown.low, shown.high) == pytest.approx((low, high), abs=0.12 * (high - low))
    assert shown.count == x.size + y.size


def test_a_run_against_itself_is_a_half():
    assert probability_of_improvement([[0.5, 0.5]], [[0.5, 0.5]]).value == 0.5
    assert probability_of_improvement([[1.0]], [[0.0]]) == Interval(1.0, None, None, 2)


def test_strata_may_differ_in_size():
    """The mean is over strata, however many runs each has; the IQM is of all runs."""
    uneven = [[0.0, 1.0, 0.5], [0.25], [0.75, 0.25, 0.5]]
    blocks = by_size(uneven)
    assert float(summary.mean(blocks)) == pytest.approx(np.mean([np.mean(s) for s in uneven]))
    assert float(summary.iqm(blocks)) == pytest.approx(stats.trim_mean(np.concatenate(uneven), 0.25))
    for drawn in resamples(blocks, 50):
        assert [block.shape for block in drawn] == [(50, 1, 1), (50, 2, 3)]
        assert (drawn[0] == 0.25).all()
        assert set(np.unique(drawn[1][:, 0])) <= {0.0, 0.5, 1.0}  # each stratum keeps to itself


def test_the_same_scores_give_the_same_digits():
    """Golden: RandomState's stream is frozen, so these hold on every machine."""
    shown = bootstrap([[0.1, 0.2, 0.4, 0.8, 0.9], [0.3, 0.3, 0.7, 0.6, 0.5]], summary.iqm)
    assert shown == bootstrap([[0.1, 0.2, 0.4, 0.8, 0.9], [0.3, 0.3, 0.7, 0.6, 0.5]], summary.iqm)
    assert (shown.value, shown.low, shown.high) == pytest.approx(GOLDEN, rel=1e-12)


def test_a_single_run_has_no_interval():
    assert bootstrap([[0.5], [0.7]], summary.mean) == Interval(pytest.approx(0.6), None, None, 2)


@pytest.mark.parametrize("name", ["median", "iqm"])
def test_a_cell_s_interval_is_the_bootstraps(name):
    cells = [[0.1, 0.5, 0.3], [0.9, 0.7, 0.8]]
    assert estimate(name, cells) == bootstrap(cells, {"median": summary.median, "iqm": summary.iqm}[name])


def test_the_median_of_three_lies_in_their_range_in_75_of_100_experiments():
    """What the table says of so few runs."""
    draws = np.random.default_rng(2).normal(0, 1, (4000, 3))
    inside = np.mean((draws.min(axis=1) <= 0) & (draws.max(axis=1) >= 0))
    assert inside == pytest.approx(1 - 2 * 0.5**3, abs=0.03)
    shown = estimate("median", [[0.1, 0.4, 0.2]])
    assert (shown.low, shown.high) == (0.1, 0.4)
