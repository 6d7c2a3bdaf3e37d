"""NARMA-10 against its recursion, and the constants of its distribution."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradflow.tasks.narma10 import LARGEST, MEAN, VARIANCE, draw, narma10, respond

CPU = torch.device("cpu")


def test_the_recursion_by_hand():
    """y(t + 1) = 0.3 y(t) + 0.05 y(t) Σ_{i<10} y(t − i) + 1.5 u(t − 9) u(t) + 0.1, from rest."""
    generator = torch.Generator().manual_seed(0)
    inputs = 0.5 * torch.rand(3, 60, generator=generator, dtype=torch.float64)
    found = respond(inputs)
    for u, response in zip(inputs.tolist(), found.tolist(), strict=True):
        y = [0.0]
        for t in range(60):
            total = sum(y[t - i] for i in range(10) if t - i >= 0)
            product = u[t - 9] * u[t] if t >= 9 else 0.0
            y.append(0.3 * y[t] + 0.05 * y[t] * total + 1.5 * product + 0.1)
        assert response == pytest.approx(y[1:], abs=1e-13)


def test_a_sequence_goes_on_from_its_own_past():
    """The target at a step follows, by the recursion, from the ten targets and ten inputs before it."""
    x, y = narma10(length=60, washout=0).load(Path(), 0, CPU).train(0)
    u, y = x[..., 0].double(), y[..., 0].double()
    for t in range(10, 60):
        window = y[:, t - 10 : t].sum(1)
        expected = 0.3 * y[:, t - 1] + 0.05 * y[:, t - 1] * window + 1.5 * u[:, t - 9] * u[:, t] + 0.1
        torch.testing.assert_close(y[:, t], expected, rtol=0, atol=1e-6)


def test_inputs_are_uniform_and_moments_are_the_constants():
    u, y = draw(2_000, 300, torch.Generator().manual_seed(1))
    assert 0 <= u.min() < 1e-4
    assert 0.4999 < u.max() < 0.5
    means, y = y.double().mean((1, 2)), y.double()
    assert abs(means.mean().item() - MEAN) < 4 * means.std().item() / 2_000**0.5
    squares = (y - MEAN).square().mean((1, 2))
    assert abs(squares.mean().item() - VARIANCE) < 4 * squares.std().item() / 2_000**0.5


def test_what_runs_away_is_drawn_again():
    """2,000 steps are long enough for some of 500 to exceed the bound; the ones that are given never do."""
    raw = 0.5 * torch.rand(500, 2_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert not (respond(raw).amax(1) <= LARGEST).all()
    u, y = draw(500, 1_800, torch.Generator().manual_seed(2))
    assert y.isfinite().all()
    assert y.max() <= LARGEST
    again = draw(500, 1_800, torch.Generator().manual_seed(2))
    assert torch.equal(u, again[0])
    assert torch.equal(y, again[1])
