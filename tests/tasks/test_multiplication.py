"""The multiplication problem: marks as in adding, and the product."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.criterion import Criterion
from gradflow.tasks.multiplication import multiplication

CPU = torch.device("cpu")


def test_the_target_is_the_product_of_what_is_marked():
    x, y = multiplication(length=60, batch_size=20_000).load(Path(), 0, CPU).train(0)
    value, mark = x[..., 0], x[..., 1]
    assert 60 <= x.shape[1] <= 66
    assert (mark[:, [0, -1]] == -1).all()
    count = mark[:, 1:-1].sum(1)
    assert set(count.tolist()) == {1.0, 2.0}
    assert (value[count == 1, 0] == 1).all()
    assert 0 <= value.min() < 1e-4
    product = torch.where(mark == 1, value, 1.0).prod(1)
    torch.testing.assert_close(y[:, 0], product)


def test_the_guess_against_a_simulation_of_what_the_paper_says():
    """10⁶ products of two U[0, 1], one of them 1 where the first pair is chosen: variance, and spread of squares."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1_000_000, 2, generator=generator, dtype=torch.float64)
    first = torch.rand(1_000_000, generator=generator) < 0.1 + 0.9 / 48
    product = torch.where(first, x[:, 0], x.prod(1))
    square = (product - product.mean()).square()
    task = multiplication(length=100)
    assert task.chance == pytest.approx(square.mean().item(), rel=5e-3)
    assert task.chance_error(1) == pytest.approx(square.std().item(), rel=5e-3)


def test_criterion_and_shortest_length():
    assert multiplication().solved == Criterion("wrong", 0.0065, at_most=True)
    assert multiplication(length=22).lengths == (22, 24)
    with pytest.raises(ValueError, match=r"task\.length=21 .* 22 or more"):
        multiplication(length=21)
