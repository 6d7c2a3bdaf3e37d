"""Chunks of steps: whole, in order, cut wherever something happens, and the same after a restart."""

from __future__ import annotations

import pytest

from gradflow.training.budget import LONGEST_CHUNK, Budget

BUDGETS = [
    Budget(total=50, log_every=10, val_every=25, checkpoint_every=20),
    Budget(total=47, log_every=7, val_every=11, checkpoint_every=13),
    Budget(total=5, log_every=100, val_every=100, checkpoint_every=100),
    Budget(total=30, log_every=1, val_every=30, checkpoint_every=30),
    Budget(total=64, log_every=64, val_every=16, checkpoint_every=24),
    Budget(total=1, log_every=1, val_every=1, checkpoint_every=1),
    Budget(total=60, log_every=10, val_every=25, checkpoint_every=50, boundaries=(3, 7, 11, 30)),
]


def run(budget: Budget, first: int = 0) -> list[tuple[int, int]]:
    """All chunks from `first` to the end, one validation after another as Lightning asks for them."""
    chunks: list[tuple[int, int]] = []
    while first < budget.total:
        part = list(budget.chunks(first))
        assert part[-1][1] == min(budget.total, (first // budget.val_every + 1) * budget.val_every)
        chunks += part
        first = part[-1][1]
    return chunks


def happenings(budget: Budget) -> set[int]:
    every = (budget.log_every, budget.val_every, budget.checkpoint_every)
    steps = {step for step in range(1, budget.total + 1) if any(step % n == 0 for n in every)}
    return steps | {budget.total, *budget.boundaries}


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_every_step_once_and_in_order(budget):
    steps = [step for chunk in run(budget) for step in range(*chunk)]
    assert steps == list(range(budget.total))
    assert max(stop - start for start, stop in run(budget)) <= LONGEST_CHUNK


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_chunks_end_wherever_something_happens(budget):
    assert happenings(budget) <= {stop for _, stop in run(budget)}


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_restart_anywhere_meets_the_same_boundaries(budget):
    """From the end of any chunk, where checkpoints are saved, the chunks themselves are the same."""
    whole = run(budget)
    for first in range(budget.total):
        assert {step for step in happenings(budget) if step > first} <= {stop for _, stop in run(budget, first)}
    for i, (start, _) in enumerate(whole):
        assert run(budget, start) == whole[i:]


def test_nothing_is_left_at_the_end():
    assert list(BUDGETS[0].chunks(50)) == []


def test_an_example_by_hand():
    assert list(Budget(100, log_every=10, val_every=30, checkpoint_every=25).chunks(0)) == [
        *[(0, 8), (8, 10), (10, 18), (18, 20), (20, 25), (25, 30)]
    ]


def test_a_longer_chunk_is_not_ended_by_logging():
    budget = Budget(100, log_every=10, val_every=60, checkpoint_every=50)
    assert list(budget.chunks(0, longest=40)) == [(0, 40), (40, 50), (50, 60)]


def test_losses_are_logged_at_intervals_where_the_objective_changes_and_at_the_end():
    budget = Budget(25, log_every=10, val_every=100, checkpoint_every=100, boundaries=(3, 12))
    assert [step for step in range(1, 26) if budget.logs(step)] == [3, 10, 12, 20, 25]
    assert {3, 12} <= {stop for _, stop in budget.chunks(0)}


def test_how_far_it_is_to_the_next_mean_loss():
    budget = Budget(total=25, log_every=10, val_every=100, checkpoint_every=100, boundaries=(13,))
    assert [budget.until_logged(step, 25) for step in (0, 3, 9, 10, 13, 20)] == [10, 10, 10, 13, 20, 25]
    assert budget.until_logged(0, 4) == 4
