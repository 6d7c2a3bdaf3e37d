"""What is left out of a series, and what never is."""

import itertools

import pytest

from gradflow.results.page.thin import evenly, numbers, shape, shares


@pytest.mark.parametrize(("count", "most"), itertools.product((1, 2, 7, 100, 1001), (2, 3, 10, 100)))
def test_the_first_and_the_last_stay_and_the_rest_is_even(count, most):
    kept = evenly(count, most).tolist()
    assert len(kept) == min(count, most)
    assert (kept[0], kept[-1]) == (0, count - 1)
    gaps = [b - a for a, b in itertools.pairwise(kept)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


@pytest.mark.parametrize("total", [0, 5, 50, 500, 5000])
def test_shares_are_what_is_needed_or_equal(total):
    needs = [3, 400, 40, 0, 1000]
    given = shares(needs, total)
    assert sum(given) <= total
    assert all(got <= need for got, need in zip(given, needs, strict=True))
    if total >= sum(needs):
        assert given == needs
    short = [got for got, need in zip(given, needs, strict=True) if got < need]
    assert max(short, default=0) - min(short, default=0) <= len(needs)  # nobody waits while another has more
    assert all(got <= min(short) for got, need in zip(given, needs, strict=True) if got == need and short)


@pytest.mark.parametrize(("rows", "columns", "most"), itertools.product((1, 3, 50, 10_000), (1, 4, 500), (4, 25, 900)))
def test_a_grid_keeps_its_ends_and_fits(rows, columns, most):
    few_rows, few_columns = shape(rows, columns, most)
    assert few_rows * few_columns <= max(most, 4)
    assert min(rows, 2) <= few_rows <= rows
    assert min(columns, 2) <= few_columns <= columns
    if rows * columns <= most:
        assert (few_rows, few_columns) == (rows, columns)


def test_more_runs_have_fewer_numbers_each_and_all_of_them_some():
    counts = [numbers(runs) for runs in (1, 300, 1000, 10_000, 10_000_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 50
