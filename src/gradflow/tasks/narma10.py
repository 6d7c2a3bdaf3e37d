"""NARMA-10, a non-linear moving average.

Shapes: B sequences, T time.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from gradflow.checked import Count, Seed, Several
from gradflow.rng import stream
from gradflow.tasks.draws import uniform
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import NormalizedSquaredError

ORDER = 10
WARM_UP = 200  # steps before the first one that is seen
LARGEST = 1.0  # of y

SIMULATED = 2_000  # sequences by which the spread of a guess's error is known to a few percent

# over 20,000 sequences of 1,000 steps; to 3e-4 and 1e-3 of themselves
MEAN, VARIANCE = 0.38796, 0.011749


def narma10(
    *,
    length: Several = 500,
    washout: Count = 100,
    batch_size: Several = 32,
    train_size: Several | None = None,
    val_size: Several = 200,
    test_size: Several = 1_000,
    data_seed: Seed = 0,
) -> Generated:
    """Follow a non-linear system of order ten at every step from the input that drives it (Atiya & Parlos 2000).

    y(t + 1) = 0.3 y(t) + 0.05 y(t) Σ y(t − i) over i = 0 … 9, + 1.5 u(t − 9) u(t) + 0.1, with u ~ U[0, 0.5]. x is
    u [B, T, 1]; the target at step t is y(t + 1). 200 steps go before the first one that is seen.

    The recursion can run away, and does so in 0.6 % of sequences of 1,200 steps. One in which y exceeds 1, as it does
    in 2 % of them, is drawn again, so that no rare excursion dominates the squared error.

    The metric 'nmse' divides the squared error by the variance of y, a constant measured once over many sequences;
    guessing the mean scores 1. The NRMSE of the literature is its square root.

    Args:
        length: T, in steps.
        washout: first steps of every sequence that count neither for loss nor score: the network has not seen what
            came before.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if the washout leaves nothing.
    """
    return Generated(
        name="narma10",
        outputs=1,
        features=1,
        lengths=(length, length),
        draw=draw,
        objective=NormalizedSquaredError(VARIANCE),
        guess=Guess(1.0, lambda: _deviation(length - washout)),
        every_step=True,
        washout=washout,
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """u and y(t + 1), both [B, T, 1], float32."""
    u_BT = uniform(0, 0.5, (count, WARM_UP + steps), generator).double()
    y_BT = respond(u_BT)
    while (ran_away_B := ~(y_BT.amax(1) <= LARGEST)).any():
        again_BT = uniform(0, 0.5, (count, WARM_UP + steps), generator).double()
        u_BT = torch.where(ran_away_B[:, None], again_BT, u_BT)
        y_BT = respond(u_BT)
    u_BTF, y_BTF = (part[:, WARM_UP:].float().unsqueeze(2) for part in (u_BT, y_BT))
    return u_BTF, y_BTF


def respond(u_BT: Tensor) -> Tensor:
    """y(1), …, y(T) to inputs u(0), …, u(T − 1), which are 0 before, as y is up to y(0)."""
    earlier_BT = torch.nn.functional.pad(u_BT, (ORDER - 1, 0))[:, : u_BT.shape[1]]
    force = (1.5 * earlier_BT * u_BT + 0.1).unbind(1)
    zero = torch.zeros_like(force[0])
    responses, window = [zero] * ORDER, zero  # y(−9) … y(0), and their sum
    for f in force:
        y = 0.3 * responses[-1] + 0.05 * responses[-1] * window + f
        window = window + y - responses[-ORDER]
        responses.append(y)
    return torch.stack(responses[ORDER:], 1)


@cache
def _deviation(steps: int) -> float:
    """From one sequence of `steps` to another, of the normalised squared error of guessing the mean, by simulation."""
    _, y_BTF = draw(SIMULATED, steps, stream(0, "narma10", "deviation"))
    return float(((y_BTF.double() - MEAN).square().mean((1, 2)) / VARIANCE).std())
