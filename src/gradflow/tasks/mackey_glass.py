"""Predicting the Mackey–Glass equation.

Shapes: B trajectories, N points of the grid in one delay, T samples.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from gradflow.checked import Count, Seed, Several
from gradflow.rng import stream
from gradflow.tasks.draws import integers, uniform
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import NormalizedSquaredError

PRODUCTION, DECAY = 0.2, 0.1
GRID = 5  # points per unit of time
TRANSIENT = 1_000  # units of time before the first one that may be seen
STARTS = 1_000  # units of time from which the first one is drawn: many periods, so that phases are equally likely
SIMULATED = 1_000  # sequences by which the spread of a guess's error is known to a few percent

# (delay, squashed) → mean and variance over 400 trajectories of 20,000 units of time; to 1e-5 and 1e-4 of themselves
# at a delay of 17, to 1e-3 at one of 30
MOMENTS = {
    (17, False): (0.930194, 0.0511469),
    (17, True): (-0.0649032, 0.0467306),
    (30, False): (0.89584, 0.07865),
    (30, True): (-0.09343, 0.06708),
}


def mackey_glass(
    *,
    delay: Literal[17, 30] = 17,
    horizon: Several = 1,
    squash: bool = False,
    length: Several = 500,
    washout: Count = 100,
    batch_size: Several = 32,
    train_size: Several | None = None,
    val_size: Several = 200,
    test_size: Several = 1_000,
    data_seed: Seed = 0,
) -> Generated:
    """Predict x(t + horizon) at every step from x up to t, a solution of a delay equation (Mackey & Glass 1977).

    ẋ(t) = 0.2 x(t − τ) / (1 + x(t − τ)¹⁰) − 0.1 x(t).

    x is [B, T, 1], sampled once per unit of time; the target is the sample `horizon` steps later. With τ = 17 the
    equation is mildly chaotic, with τ = 30 more so. Every sequence has a history of its own, a sine of random size and
    phase around 0.9, and begins at a random one of the units of time 1,000 to 1,999 after it.

    It is solved by the method of steps: over one delay the equation is linear with a known right-hand side, of which
    classical Runge–Kutta of fourth order with a step of 0.2 is one matrix product. Delayed values between the points
    of the grid come from cubic Hermite interpolation, so that the order is kept.

    The metric 'nmse' divides the squared error by the variance of the series, a constant measured once over a long
    time; guessing the mean scores 1. The NRMSE of the literature is its square root.

    Args:
        delay: τ, in units of time.
        horizon: how far to predict, in steps of one unit of time; 84 is usual beside 1.
        squash: give and ask for tanh(x − 1) instead of x (Jaeger 2001).
        length: T, in steps.
        washout: first steps of every sequence that count neither for loss nor score: the network's state forgets
            where it began.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if the washout leaves nothing.
    """

    def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BTF = series(count, steps + horizon, delay, squash, generator).float().unsqueeze(2)
        return x_BTF[:, :steps], x_BTF[:, horizon:]

    return Generated(
        name="mackey_glass",
        outputs=1,
        features=1,
        lengths=(length, length),
        draw=draw,
        objective=NormalizedSquaredError(MOMENTS[delay, squash][1]),
        guess=Guess(1.0, lambda: _deviation(length - washout, delay, squash)),
        every_step=True,
        washout=washout,
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def series(count: int, steps: int, delay: int, squash: bool, generator: torch.Generator) -> Tensor:
    """`steps` samples, one unit of time apart, of `count` trajectories: [B, T], float64."""
    size, phase = (uniform(low, high, (count, 1), generator).double() for low, high in ((0.0, 0.4), (0.0, math.tau)))
    half_steps = torch.arange(2 * GRID * delay + 1, device=generator.device, dtype=torch.float64) / (2 * GRID)
    history = 0.9 + size * torch.sin(phase + math.tau * half_steps / 50)
    start = integers(TRANSIENT, TRANSIENT + STARTS, (count, 1), generator)
    delays = -(-(TRANSIENT + STARTS + steps) // delay)
    x_BT = solve(history, delays, delay, GRID, every=GRID)
    x_BT = x_BT.gather(1, start + torch.arange(steps, device=start.device))
    return torch.tanh(x_BT - 1) if squash else x_BT


@cache
def _deviation(steps: int, delay: int, squash: bool) -> float:
    """From one sequence of `steps` to another, of the normalised squared error of guessing the mean, by simulation."""
    mean, variance = MOMENTS[delay, squash]
    x_BT = series(SIMULATED, steps, delay, squash, stream(0, "mackey_glass", "deviation"))
    return float(((x_BT - mean).square().mean(1) / variance).std())


def solve(history: Tensor, delays: int, delay: int, grid: int, every: int = 1) -> Tensor:
    """x at times 0, h, 2h, … of the first `delays` delays after a history: [B, delays · delay · grid / every].

    Args:
        history: x at times −delay, −delay + h/2, −delay + h, …, 0 with h = 1/grid: [B, 2 · delay · grid + 1], float64.
        delays: how many to go on.
        delay: τ, in units of time.
        grid: Runge–Kutta steps per unit of time.
        every: how many of them lie between two samples that are kept; divides those of a delay.
    """
    h, points = 1 / grid, delay * grid
    decay, (begin, middle, end) = _linear_step(h)
    exponent = torch.arange(points, device=history.device)
    power = decay ** torch.arange(points + 1, device=history.device, dtype=torch.float64)
    spread_NN = torch.where(exponent[:, None] >= exponent, power[(exponent[:, None] - exponent).clamp(min=0)], 0.0)
    x_BN, middle_BN, solved = history[:, ::2], history[:, 1::2], []
    for _ in range(delays):
        forced_BN, forced_middle_BN = _production(x_BN), _production(middle_BN)
        force_BN = begin * forced_BN[:, :-1] + middle * forced_middle_BN + end * forced_BN[:, 1:]
        now_B1 = x_BN[:, -1:]
        x_BN = torch.cat([now_B1, now_B1 * power[1:] + force_BN @ spread_NN.T], 1)
        slope_BN = forced_BN - DECAY * x_BN
        middle_BN = (x_BN[:, :-1] + x_BN[:, 1:]) / 2 + h / 8 * (slope_BN[:, :-1] - slope_BN[:, 1:])
        solved.append(x_BN[:, :-1:every].clone())
    return torch.cat(solved, 1)


def _production(x: Tensor) -> Tensor:
    fourth = x.square().square()
    return PRODUCTION * x / (1 + fourth.square() * x.square())


def _linear_step(h: float) -> tuple[float, tuple[float, float, float]]:
    """(decay, (begin, middle, end)): one Runge–Kutta step of ẋ = f − DECAY · x with f at t, t + h/2 and t + h."""

    def step(x: float, f0: float, f1: float, f2: float) -> float:
        k1 = f0 - DECAY * x
        k2 = f1 - DECAY * (x + h / 2 * k1)
        k3 = f1 - DECAY * (x + h / 2 * k2)
        k4 = f2 - DECAY * (x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step(1, 0, 0, 0), (step(0, 1, 0, 0), step(0, 0, 1, 0), step(0, 0, 0, 1))
