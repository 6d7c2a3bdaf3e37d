"""The adding problem: marks, values and targets of each convention, as its authors describe them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gradflow.tasks.adding import adding
from gradflow.tasks.criterion import Criterion

CPU = torch.device("cpu")
CONVENTIONS = ["urnn", "hochreiter1997", "pascanu2013"]


def batch(convention: str, length: int = 60, count: int = 4_000) -> tuple[Tensor, Tensor, Tensor]:
    """(values [B, T], marks [B, T], targets [B])."""
    x, y = adding(convention=convention, length=length, batch_size=count).load(Path(), 0, CPU).train(0)  # type: ignore[arg-type]
    return x[..., 0], x[..., 1], y[:, 0]


def places(mark: Tensor) -> tuple[Tensor, Tensor]:
    """The two marked positions, in order."""
    assert (mark.sum(1) == 2).all()
    position = mark.nonzero()[:, 1].view(-1, 2)
    return position[:, 0], position[:, 1]


def uniform_over(position: Tensor, low: int, high: int) -> bool:
    """Whether each of low … high − 1 is taken, and as often as the others (χ² within 5 standard deviations)."""
    counts = position.bincount(minlength=high).double()
    expected, free = len(position) / (high - low), high - low - 1
    chi2 = ((counts[low:high] - expected) ** 2 / expected).sum().item()
    return len(counts) == high and counts[:low].sum() == 0 and abs(chi2 - free) < 5 * (2 * free) ** 0.5 + 1


def test_urnn_marks_one_value_in_each_half_and_adds_them():
    value, mark, y = batch("urnn", length=60)
    first, second = places(mark)
    assert uniform_over(first, 0, 30)
    assert uniform_over(second, 30, 60)
    assert (value.min(), value.max()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    torch.testing.assert_close(y, (value * mark).sum(1))


def test_pascanu_marks_two_values_in_the_first_half_and_takes_their_mean():
    value, mark, y = batch("pascanu2013", length=60)
    steps = value.shape[1]
    first, second = places(mark)
    assert 60 <= steps <= 65
    assert uniform_over(first, 0, steps // 10)
    assert uniform_over(second, steps // 10, steps // 10 + steps * 4 // 10)
    assert (value.min(), value.max()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    torch.testing.assert_close(y, (value * mark).sum(1) / 2)


def test_hochreiter_marks_both_ends_with_minus_1_and_scales_the_sum():
    """The first of two marks is one of the first ten pairs, the other another of the first T/2 − 1 = 29."""
    value, mark, y = batch("hochreiter1997", length=60, count=20_000)
    assert 60 <= value.shape[1] <= 66
    assert (mark[:, 0] == -1).all()
    assert (mark[:, -1] == -1).all()
    inner = mark[:, 1:-1]
    assert set(inner.unique().tolist()) == {0.0, 1.0}
    count = inner.sum(1)
    assert set(count.tolist()) == {1.0, 2.0}
    expected = 0.1 + 0.9 / 28  # that the first pair is chosen, by either
    assert abs((count == 1).double().mean().item() - expected) < 5 * (expected / 20_000) ** 0.5
    assert inner.argmax(1).max() + 1 < 29
    assert inner.sum(0)[28:].sum() == 0
    earliest = inner[count == 2].argmax(1) + 1
    assert earliest.min() == 1
    assert (earliest < 10).all()
    assert (value[count == 1, 0] == 0).all()
    assert (value[count == 2, 0] != 0).all()
    assert (value.min(), value.max()) == (pytest.approx(-1, abs=1e-4), pytest.approx(1, abs=1e-4))
    torch.testing.assert_close(y, 0.5 + (value * (mark == 1)).sum(1) / 4)


def test_conventions_differ_in_scale_tolerance_and_criterion():
    tasks = {convention: adding(convention=convention) for convention in CONVENTIONS}  # type: ignore[arg-type]
    assert {name: task.chance for name, task in tasks.items()} == pytest.approx(
        {"urnn": 1 / 6, "hochreiter1997": 0.0392, "pascanu2013": 1 / 24}, abs=5e-5
    )
    assert {name: task.lengths for name, task in tasks.items()} == {
        "urnn": (100, 100),
        "hochreiter1997": (100, 110),
        "pascanu2013": (100, 109),
    }
    assert tasks["urnn"].solved == Criterion("mse", 0.05, at_most=True)
    assert tasks["hochreiter1997"].solved == Criterion("wrong", 0.0, at_most=True)
    off = torch.tensor([[0.5 + 0.041], [0.5 + 0.199], [0.5 + 0.201]])
    wrong = {name: task.score(off, torch.full_like(off, 0.5))["wrong"].item() for name, task in tasks.items()}
    assert wrong == {"urnn": 3, "hochreiter1997": 3, "pascanu2013": 1}


@pytest.mark.parametrize(("convention", "least"), [("urnn", 2), ("hochreiter1997", 22), ("pascanu2013", 10)])
def test_the_shortest_length_has_room_for_the_marks_and_one_less_is_refused(convention, least):
    value, _, y = batch(convention, length=least, count=200)
    assert torch.isfinite(y).all()
    assert value.shape[1] >= least
    with pytest.raises(
        ValueError, match=rf"task\.length={least - 1} .*task\.convention={convention}.* {least} or more"
    ):
        adding(convention=convention, length=least - 1)
