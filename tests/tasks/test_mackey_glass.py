"""The Mackey–Glass series against solutions found in other ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from gradflow.tasks.mackey_glass import MOMENTS, mackey_glass, series, solve

CPU = torch.device("cpu")


def constant_history(value: float, delay: int, grid: int) -> torch.Tensor:
    return torch.full((1, 2 * delay * grid + 1), value, dtype=torch.float64)


def test_the_first_delays_against_a_solver_of_ordinary_equations():
    """Delay by delay, each an ordinary equation whose right-hand side is SciPy's dense solution of the one before."""
    delay, grid = 17, 10
    found = solve(constant_history(1.2, delay, grid), 4, delay, grid)[0].numpy()
    before, now, solved = (lambda t: np.full_like(t, 1.2)), 1.2, []
    for k in range(4):
        solution = solve_ivp(
            lambda t, x, before=before: 0.2 * before(t - delay) / (1 + before(t - delay) ** 10) - 0.1 * x,
            (k * delay, (k + 1) * delay),
            [now],
            dense_output=True,
            rtol=1e-11,
            atol=1e-12,
            max_step=0.5,
        )
        before = lambda t, solution=solution: solution.sol(t)[0]  # noqa: E731
        now = solution.y[0, -1]
        solved.append(solution.sol(k * delay + np.arange(delay * grid) / grid)[0])
    np.testing.assert_allclose(found, np.concatenate(solved), rtol=0, atol=1e-8)


def test_against_runge_kutta_step_by_step():
    """Classical steps in plain Python, with the same Hermite midpoints: the same numbers to rounding."""
    delay, grid = 3, 5
    h, points = 1 / grid, delay * grid
    generator = torch.Generator().manual_seed(0)
    history = 0.5 + torch.rand(1, 2 * points + 1, generator=generator, dtype=torch.float64)
    x, middle, slope = history[0, ::2].tolist(), history[0, 1::2].tolist(), []

    def production(value: float) -> float:
        return 0.2 * value / (1 + value**10)

    for n in range(5 * points):
        f0, f1, f2 = production(x[n]), production(middle[n]), production(x[n + 1])
        now = x[points + n]
        k1 = f0 - 0.1 * now
        k2 = f1 - 0.1 * (now + h / 2 * k1)
        k3 = f1 - 0.1 * (now + h / 2 * k2)
        k4 = f2 - 0.1 * (now + h * k3)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        slope = [f0 - 0.1 * now, f2 - 0.1 * x[-1]]
        middle.append((now + x[-1]) / 2 + h / 8 * (slope[0] - slope[1]))
    found = solve(history, 5, delay, grid)[0]
    torch.testing.assert_close(found, torch.tensor(x[points:-1], dtype=torch.float64), rtol=0, atol=1e-13)


def test_the_scheme_is_of_fourth_order():
    """Half the step, a sixteenth of the error, over five delays."""
    delay = 17
    fine = solve(constant_history(0.5, delay, 128), 5, delay, 128)[0, ::128]
    errors = [
        (solve(constant_history(0.5, delay, grid), 5, delay, grid)[0, ::grid] - fine).abs().max().item()
        for grid in (4, 8, 16)
    ]
    assert 12 < errors[0] / errors[1] < 20
    assert 12 < errors[1] / errors[2] < 20


@pytest.mark.parametrize(("delay", "squash"), MOMENTS)
def test_the_first_sample_is_distributed_like_the_whole_series(delay, squash):
    """Nothing of the histories is left: over 1,000 sequences, mean and variance at the first step are the constants."""
    first = series(1_000, 1, delay, squash, torch.Generator().manual_seed(1))[:, 0]
    mean, variance = MOMENTS[delay, squash]
    assert abs(first.mean().item() - mean) < 4 * (variance / 1_000) ** 0.5
    square = (first - mean).square()
    assert abs(square.mean().item() - variance) < 4 * square.std().item() / 1_000**0.5


def test_targets_are_inputs_some_steps_later_and_squashing_is_of_both():
    plain, later, squashed = (
        mackey_glass(length=80, washout=0, **keys).load(Path(), 0, CPU).train(0)  # type: ignore[arg-type]
        for keys in ({}, {"horizon": 20}, {"squash": True})
    )
    assert torch.equal(plain[0][:, 1:], plain[1][:, :-1])
    assert torch.equal(later[0], plain[0])
    assert torch.equal(later[1][:, :-20], later[0][:, 20:])
    torch.testing.assert_close(squashed[0], torch.tanh(plain[0] - 1))


def test_sequences_are_chaotic_and_within_the_attractor():
    """Two trajectories 1e-9 apart are further apart by orders of magnitude after 4,000 units of time."""
    delay, grid = 17, 10
    history = constant_history(1.2, delay, grid).repeat(2, 1)
    history[1] += 1e-9
    far = solve(history, 240, delay, grid)[:, ::grid]
    assert 0.2 < far.min() < far.max() < 1.4
    apart = (far[0] - far[1]).abs()
    assert apart[:100].max() < 1e-7
    assert apart[-500:].max() > 1e-3


def test_washout_counts_for_nothing():
    task = mackey_glass(length=30, washout=12)
    _, y = task.load(Path(), 0, CPU).evaluation("val", 0, 5, torch.float32)
    outputs = y.clone()
    outputs[:, :12] += 100
    assert task.loss(outputs, y) == 0
    assert task.score(outputs, y)["nmse"] == 0
    outputs[:, 12] += 1
    assert task.loss(outputs, y).item() == pytest.approx(1 / 18, rel=1e-5)
    assert task.score(outputs, y)["nmse"].item() == pytest.approx(5 / 18 / MOMENTS[17, False][1], rel=1e-5)
    with pytest.raises(ValueError, match=r"task\.washout=30 leaves nothing of 30 steps"):
        mackey_glass(length=30, washout=30)
