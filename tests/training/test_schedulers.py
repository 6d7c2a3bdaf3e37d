"""Learning-rate schedules against their closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from gradflow.training import schedulers

TOTAL = 40


@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_warm_up(name, warmup):
    """The first `warmup` steps rise in equal parts, and step `warmup` has the base rate itself."""
    schedule = getattr(schedulers, name)
    rise = [schedule(k, TOTAL, warmup_steps=warmup) for k in range(warmup + 1)]
    assert rise == pytest.approx([(k + 1) / (warmup + 1) for k in range(warmup + 1)], rel=1e-12)
    assert rise[-1] == 1


def test_constant():
    assert {schedulers.constant(k, TOTAL) for k in range(TOTAL)} == {1.0}


@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0, 10])
def test_cosine(warmup, final):
    """1 where the warm-up ends, half-way at half time, `final_factor` at the end and after; never rising."""

    def factor(step: int) -> float:
        return schedulers.cosine(step, TOTAL, warmup_steps=warmup, final_factor=final)

    assert factor(warmup) == 1
    assert factor((TOTAL + warmup) // 2) == pytest.approx((1 + final) / 2, rel=1e-12)
    assert factor(TOTAL) == factor(TOTAL + 7) == final
    after = [factor(k) for k in range(warmup, TOTAL)]
    assert all(a > b for a, b in pairwise(after))


def test_cosine_is_torch_s():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.1)
    for step in range(TOTAL):
        assert schedulers.cosine(step, TOTAL, final_factor=0.1) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_cosine_of_nothing_but_warm_up():
    assert [schedulers.cosine(k, 4, warmup_steps=4) for k in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_step():
    """÷10 at half and at three quarters of the budget, as in He et al. 2016."""
    factors = [schedulers.step(k, TOTAL) for k in range(TOTAL)]
    assert factors == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10, rel=1e-12)


def test_step_with_milestones_of_one_s_own():
    factors = [schedulers.step(k, 10, warmup_steps=2, milestones=[0.25, 0.3], factor=0.5) for k in range(10)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1] + [0.25] * 7, rel=1e-12)
    assert schedulers.step(9, 10, factor=0.0) == 0
