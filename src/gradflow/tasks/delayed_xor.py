"""Delayed temporal XOR.

Shapes: B sequences, T time.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import integers
from gradflow.tasks.generated import Generated, Guess
from gradflow.tasks.objectives import StepwiseCrossEntropy


def delayed_xor(
    *,
    delay: Several = 10,
    length: Several = 300,
    batch_size: Several = 16,
    train_size: Several | None = None,
    val_size: Several = 200,
    test_size: Several = 1_000,
    data_seed: Seed = 0,
) -> Generated:
    """At every step, whether the bits of d and of 2d steps ago differ: s(t − d) XOR s(t − 2d) (Engelken 2023).

    x is s [B, T, 1], independent fair bits, 0 or 1. Two outputs for the two classes; the first 2d steps have no target.
    The two bits must be kept and compared: either alone says nothing, and no linear map of the two answers.

    The definition is that of the generator in the author's repository (its task −1; the sum of bits in place of one,
    2^h of them, is left out), where a sigmoid and its cross-entropy stand for our two outputs. The metric 'accuracy' is
    the share of right answers at the steps that count. We do not know of a bound from which the paper calls a run
    solved; here it is 99 %, as for `parity`.

    Args:
        delay: d, in steps; 10 in the repository's example.
        length: T, in steps, more than 2d; 300 in the repository's example.
        batch_size: sequences per step; 16 in the repository's example.
        train_size: sequences in a fixed training set; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if no step of a sequence has a target.
    """
    counted = length - 2 * delay
    if counted < 1:
        raise ValueError(
            f"task.length={length} leaves no step that has task.delay={delay} steps before it twice over: "
            f"set task.length={2 * delay + 1} or more"
        )
    return Generated(
        name="delayed_xor",
        outputs=2,
        features=1,
        lengths=(length, length),
        draw=partial(draw, delay),
        objective=StepwiseCrossEntropy(counted, metric="accuracy", larger_is_better=True),
        guess=Guess(0.5, 0.5 / math.sqrt(counted)),  # answers at two steps are independent, even if they share a bit
        every_step=True,
        washout=2 * delay,
        solved=Criterion("accuracy", 0.99, at_most=False),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def draw(delay: int, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """s [B, T, 1] and the labels [B, T], which are 0 where they do not count."""
    bit_BT = integers(0, 2, (count, steps), generator)
    label_BT = torch.zeros_like(bit_BT)
    label_BT[:, 2 * delay :] = bit_BT[:, delay:-delay] ^ bit_BT[:, : -2 * delay]
    return bit_BT.float().unsqueeze(2), label_BT
