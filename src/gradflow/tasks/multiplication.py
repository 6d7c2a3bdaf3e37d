"""The multiplication problem."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import uniform
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.marked import marked, two_marks
from gradflow.tasks.objectives import SquaredError

SHORTEST = 22  # steps: the first ten pairs are within the first T/2 − 1


def multiplication(
    *,
    length: Several = 100,
    batch_size: Several = 128,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Multiply the two numbers that are marked (Hochreiter & Schmidhuber 1997, experiment 5).

    x is [B, T, 2], as in the adding problem of the same paper, but values are U[0, 1] and the target is X1 · X2, which
    a memory that adds up cannot hold. Lengths are random between T and T + T/10. The first pair has mark −1 even if
    it is chosen, and counts as 1. An answer is right if it is off by less than 0.04. The task counts as solved with at
    most 0.65 % wrong, the stricter of the paper's two criteria (13 of 2,000).

    Args:
        length: T, in steps.
        batch_size: sequences per step; fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation and test.

    Raises:
        ValueError: if `length` is too short for the marks.
    """
    if length < SHORTEST:
        raise ValueError(f"task.length={length} leaves the marks no room: set task.length to {SHORTEST} or more")

    def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        value_BT = uniform(0, 1, (count, steps), generator)
        first, second = two_marks(length, count, generator)
        value_BT[:, 0].masked_fill_((first == 0) | (second == 0), 1.0)
        x_BTF, picked_B2 = marked(value_BT, first, second, ends=-1.0)
        return x_BTF, picked_B2.prod(1, keepdim=True)

    return Generated(
        name="multiplication",
        outputs=1,
        features=2,
        lengths=(length, length + length // 10),
        draw=draw,
        objective=SquaredError(tolerance=0.04),
        guess=_guess(length),
        solved=Criterion("wrong", 13 / 2000, at_most=True),
        batch_size=batch_size,
        train_size=None,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def _guess(length: int) -> Guess:
    """The squared error of the mean product: moments of U[0, 1] are 1/(k + 1), of a product of two their squares."""
    alone = 0.1 + 0.9 / (length // 2 - 2)  # the first pair is chosen and counts as 1
    m1, m2, m3, m4 = (alone / (k + 1) + (1 - alone) / (k + 1) ** 2 for k in (1, 2, 3, 4))
    variance = m2 - m1**2
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return Guess(variance, math.sqrt(fourth - variance**2))
