"""Parity of a sequence of bits."""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import integers
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import CrossEntropy


def parity(
    *,
    length: Several = 20,
    variable: bool = False,
    batch_size: Several = 32,
    train_size: Several | None = None,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Tell whether the number of ones is odd (Bengio, Simard & Frasconi 1994, section IV); x is [B, T, 1], +1 or −1.

    Every bit matters: two classes, each half of the sequences, and any T − 1 of the bits say nothing.

    Args:
        length: T, in steps.
        variable: lengths are random between T/2 and T, as theirs.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set of one length; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.
    """
    return Generated(
        name="parity",
        outputs=2,
        features=1,
        lengths=(max(length // 2, 1) if variable else length, length),
        draw=_draw,
        objective=CrossEntropy(),
        guess=Guess.of_classes(2),
        solved=Criterion("accuracy", 0.99, at_most=False),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def _draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    bit_BT = integers(0, 2, (count, steps), generator)
    return (2.0 * bit_BT - 1).unsqueeze(2), bit_BT.sum(1) % 2
