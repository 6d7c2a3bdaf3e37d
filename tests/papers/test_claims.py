"""Claims: what they say, and what runs say of them."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from gradflow.errors import ConfigError
from gradflow.papers.claims import combine, judge, parse
from gradflow.papers.values import exact_share
from gradflow.results.estimate import mean_interval
from gradflow.results.statistics.interval import Interval

RNG = np.random.default_rng(0)


def value_of(**cells):
    return lambda term: cells.get("_".join(term[1]))


@pytest.mark.parametrize(
    ("text", "constant", "factors"),
    [
        ("error(a,2) > error(b,2)", 0, {"a2": 1, "b2": -1}),
        ("error(a,2) < error(b,2)", 0, {"a2": -1, "b2": 1}),
        ("error(a,2) < 0.5 * error(b,2)", 0, {"a2": -1, "b2": 0.5}),
        ("2 * (error(a,2) - error(b,2)) / 4 >= -1 + 3", -2, {"a2": 0.5, "b2": -0.5}),
        ("10 > -error(a,0.5)", 10, {"a0.5": 1}),
        ("error(a,2) + error(a,2) > 1", -1, {"a2": 2}),
    ],
)
def test_a_comparison_is_a_difference_that_is_claimed_to_be_positive(text, constant, factors):
    (comparison,) = parse(text).comparisons
    assert comparison.difference.constant == pytest.approx(constant)
    assert {"".join(key): f for (_, key), f in comparison.difference.factors.items()} == pytest.approx(factors)


def test_chains_and_conjunctions_are_several_comparisons():
    claimed = parse("m(a) < m(b) <= 3 and m(c) > 0")
    assert [each.text for each in claimed.comparisons] == ["m(a) < m(b)", "m(b) <= 3", "m(c) > 0"]
    assert claimed.cells() == [("m", ("b",)), ("m", ("a",)), ("m", ("c",))]


@pytest.mark.parametrize(
    "text",
    [
        *("m(a)", "m(a) == m(b)", "m(a) > m(b) or m(a) > 1", "m(a) * m(b) > 1", "1 / m(a) > 1", "1 > 2", "m(a) >"),
        *("m(a > 1", "m(x=1) > 0", "m([1]) > 0", "max(m(a), 1).real > 0", "m(a) > 'b'", "m(a) / 0 > 1"),
    ],
)
def test_nothing_else_is_a_claim(text):
    with pytest.raises(ConfigError, match=r"claims: .*; allowed: measure\(coordinates\)"):
        parse(text)


def test_with_wilsons_intervals_two_proportions_are_compared_by_newcombe_s_method_10():
    # Newcombe 1998, Statistics in Medicine 17:873, table II, row a, method 10: 56/70 against 48/80
    cells = {}
    for name, successes, count in (("a", 56, 70), ("b", 48, 80)):
        ends = binomtest(successes, count).proportion_ci(method="wilson")
        cells["s", (name,)] = Interval(successes / count, ends.low, ends.high, count)
    made = combine(parse("s(a) > s(b)").comparisons[0].difference, cells)
    assert (made.value, made.low, made.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("count", "verdict"), [(2, "undecided"), (3, "undecided"), (4, "supported"), (5, "supported")])
def test_all_against_none_is_shown_by_as_many_runs_as_fishers_exact_test_wants(count, verdict):
    found = judge(parse("s(a) > s(b)"), value_of(a=exact_share(count, count), b=exact_share(0, count)))
    assert found.verdict == verdict
    assert (fisher_exact([[count, 0], [0, count]]).pvalue < 0.05) == (verdict == "supported")


def test_means_are_combined_in_quadrature_each_with_its_own_interval():
    a, b = (mean_interval(list(RNG.normal(mean, 1, n))) for mean, n in ((3, 5), (1, 9)))
    made = combine(parse("2 * m(a) - m(b) > 1").comparisons[0].difference, {("m", ("a",)): a, ("m", ("b",)): b})
    assert made.value == pytest.approx(2 * a.value - b.value - 1)
    half = math.hypot(2 * a.half, b.half)
    assert (made.low, made.high) == pytest.approx((made.value - half, made.value + half))
    assert made.count == 5


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says():
    """4 and 6 seeds of unequal spread, 2,000 times: 95 % within three standard errors, or more (quadrature of two
    Student intervals is conservative)."""
    claim, inside, times = parse("m(a) > m(b)").comparisons[0].difference, 0, 2000
    for _ in range(times):
        a, b = mean_interval(list(RNG.normal(1, 1, 4))), mean_interval(list(RNG.normal(0, 3, 6)))
        made = combine(claim, {("m", ("a",)): a, ("m", ("b",)): b})
        inside += made.low <= 1 <= made.high
    assert inside / times > 0.95 - 3 * math.sqrt(0.95 * 0.05 / times)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (Interval(3, 2, 4, 5), Interval(0, -1, 1, 5), "supported"),
        (Interval(0, -1, 1, 5), Interval(3, 2, 4, 5), "contradicted"),
        (Interval(1, 0, 2, 5), Interval(0, -1, 1, 5), "undecided"),
        (Interval(9, None, None, 1), Interval(0, -1, 1, 5), "undecided"),  # one seed says nothing of another
        (None, Interval(0, -1, 1, 5), "not run"),
        (Interval(1, 1, 1, 5), Interval(0, 0, 0, 5), "supported"),
        (Interval(0, 0, 0, 5), Interval(0, 0, 0, 5), "undecided"),
    ],
)
def test_a_claim_is_judged_by_where_its_interval_lies(a, b, verdict):
    finding = judge(parse("m(a) > m(b)"), value_of(a=a, b=b))
    assert finding.verdict == verdict
    assert (finding.parts[0][2] is None) == (verdict == "not run")


def test_all_of_a_conjunction_is_claimed():
    high, low, wide = Interval(3, 2, 4, 5), Interval(0, -1, 1, 5), Interval(1, -9, 11, 5)
    cells = {"h": high, "l": low, "w": wide}
    texts = [
        *("m(h) > m(l) and m(h) > 0", "m(h) > m(l) and m(w) > 0", "m(w) > 0 and m(l) > m(h)"),
        *("m(x) > 0 and m(h) > 0", "m(x) > 0 and m(l) > m(h)"),
    ]
    found = {text: judge(parse(text), value_of(**cells)).verdict for text in texts}
    assert list(found.values()) == ["supported", "undecided", "contradicted", "not run", "contradicted"]
