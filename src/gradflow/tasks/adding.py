"""The adding problem, in three conventions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import integers, uniform
from gradflow.tasks.generated import Draw, Generated, Guess
from gradflow.tasks.marked import marked, two_marks
from gradflow.tasks.objectives import SquaredError

SHORTEST = {"urnn": 2, "hochreiter1997": 22, "pascanu2013": 10}  # steps below which a mark has nowhere to go


def adding(
    *,
    convention: Literal["urnn", "hochreiter1997", "pascanu2013"] = "urnn",
    length: Several = 100,
    batch_size: Several = 128,
    train_size: Several | None = None,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Add the two numbers that are marked in a sequence of numbers; x is [B, T, 2], (value, mark) at every step.

    Errors of different conventions cannot be compared:

    | | urnn | hochreiter1997 | pascanu2013 |
    | --- | --- | --- | --- |
    | values | U[0, 1] | U[−1, 1] | U[0, 1] |
    | first mark | first half | first 10 pairs | first 10 % |
    | second mark | second half | first T/2 − 1 pairs, another | from 10 % to 50 % |
    | mark of both ends | none | −1 | none |
    | steps | T | T … T + T/10 | T … T + T/10 − 1 |
    | target | X1 + X2 | 0.5 + (X1 + X2)/4 | (X1 + X2)/2 |
    | right | error < 0.04 | error < 0.04 | error < 0.2 |
    | solved | mse ≤ 0.05 | none of the validation split wrong | at most 1 % wrong |
    | chance | 1/6 = 0.1667 | 0.0392 at T = 100 | 1/24 = 0.0417 |

    'urnn' is that of Arjovsky, Shah & Bengio 2016 and of most work since; its criterion is that of Keller et al. 2024,
    table 1, and its tolerance that of the other conventions' 'wrong', since none is published. 'hochreiter1997' is
    experiment 4 of Hochreiter & Schmidhuber 1997: the first pair has mark −1 even if it is chosen, and counts as 0.
    'pascanu2013' follows the code of Pascanu, Mikolov & Bengio 2013.

    Args:
        convention: a column of the table.
        length: T, in steps.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set, for 'urnn' alone, whose authors had 100,000; null: fresh ones
            at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if `length` is too short for the convention, and what `Generated` refuses.
    """
    if length < SHORTEST[convention]:
        raise ValueError(
            f"task.length={length} leaves the marks of task.convention={convention} no room: "
            f"set task.length to {SHORTEST[convention]} or more"
        )
    draws = {"urnn": _urnn, "hochreiter1997": _hochreiter1997(length), "pascanu2013": _pascanu2013}
    longest = {"urnn": length, "hochreiter1997": length + length // 10, "pascanu2013": length + length // 10 - 1}
    solved = {
        "urnn": Criterion("mse", 0.05, at_most=True),
        "hochreiter1997": Criterion("wrong", 0.0, at_most=True),
        "pascanu2013": Criterion("wrong", 0.01, at_most=True),
    }
    # (S − 1)² of S, a sum of two U[0, 1]: mean 1/6, fourth moment 1/15
    guesses = {
        "urnn": Guess(1 / 6, math.sqrt(7 / 180)),
        "hochreiter1997": _guess1997(length),
        "pascanu2013": Guess(1 / 24, math.sqrt(7 / 180) / 4),
    }
    return Generated(
        name="adding",
        outputs=1,
        features=2,
        lengths=(length, longest[convention]),
        draw=draws[convention],
        objective=SquaredError(tolerance=0.2 if convention == "pascanu2013" else 0.04),
        guess=guesses[convention],
        solved=solved[convention],
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def _urnn(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    value_BT, half = uniform(0, 1, (count, steps), generator), steps // 2
    first, second = (integers(*ends, (count,), generator) for ends in ((0, half), (half, steps)))
    x_BTF, picked_B2 = marked(value_BT, first, second)
    return x_BTF, picked_B2.sum(1, keepdim=True)


def _pascanu2013(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    value_BT, tenth = uniform(0, 1, (count, steps), generator), steps // 10
    first = integers(0, tenth, (count,), generator)
    second = integers(tenth, tenth + steps * 4 // 10, (count,), generator)
    x_BTF, picked_B2 = marked(value_BT, first, second)
    return x_BTF, picked_B2.mean(1, keepdim=True)


def _hochreiter1997(length: int) -> Draw:
    def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        value_BT = uniform(-1, 1, (count, steps), generator)
        first, second = two_marks(length, count, generator)
        value_BT[:, 0].masked_fill_((first == 0) | (second == 0), 0.0)
        x_BTF, picked_B2 = marked(value_BT, first, second, ends=-1.0)
        return x_BTF, 0.5 + picked_B2.sum(1, keepdim=True) / 4

    return draw


def _guess1997(length: int) -> Guess:
    """The squared error of answering 0.5: ((X1 + X2)/4)², where one of both is 0 if the first pair is chosen."""
    alone = 0.1 + 0.9 / (length // 2 - 2)
    square = (alone * 1 / 3 + (1 - alone) * 2 / 3) / 16
    fourth = (alone * 1 / 5 + (1 - alone) * 16 / 15) / 256
    return Guess(square, math.sqrt(fourth - square**2))
