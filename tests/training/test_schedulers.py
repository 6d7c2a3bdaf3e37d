"""Learning-rate schedules against their closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from gradflow.training import schedulers

TOTAL = 40


def test_constant():
    assert {schedulers.constant(k, TOTAL) for k in range(TOTAL)} == {1.0}


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine(final):
    """1 at first, half-way at half time, `final_factor` at the end and after; never rising."""

    def factor(step: int) -> float:
        return schedulers.cosine(step, TOTAL, final_factor=final)

    assert factor(0) == 1
    assert factor(TOTAL // 2) == pytest.approx((1 + final) / 2, rel=1e-12)
    assert factor(TOTAL) == factor(TOTAL + 7) == final
    after = [factor(k) for k in range(TOTAL)]
    assert all(a > b for a, b in pairwise(after))


def test_cosine_is_torch_s():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.1)
    for step in range(TOTAL):
        assert schedulers.cosine(step, TOTAL, final_factor=0.1) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_step():
    """÷10 at half and at three quarters of the budget, as in He et al. 2016."""
    factors = [schedulers.step(k, TOTAL) for k in range(TOTAL)]
    assert factors == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10, rel=1e-12)


def test_step_with_milestones_of_one_s_own():
    factors = [schedulers.step(k, 10, milestones=[0.25, 0.4], factor=0.5) for k in range(10)]
    assert factors == pytest.approx([1] * 3 + [0.5] + [0.25] * 6, rel=1e-12)
    assert schedulers.step(9, 10, factor=0.0) == 0
