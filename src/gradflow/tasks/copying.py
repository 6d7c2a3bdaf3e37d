"""The copying problem, in two conventions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import BLOCK, integers
from gradflow.tasks.generated import Generated, Guess, block_lengths
from gradflow.tasks.objectives import StepwiseCrossEntropy

RECALLED = 10  # symbols to be remembered
BLANK, MARKER = 0, 9  # between them the eight symbols that are remembered


def copying(
    *,
    convention: Literal["urnn", "delayed_marker"] = "urnn",
    length: Several = 100,
    variable: bool = False,
    batch_size: Several = 128,
    train_size: Several | None = None,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Remember ten symbols of eight kinds over T blanks; x is [B, T + 20, 10], one-hot, and every step has a target.

    | | urnn | delayed_marker |
    | --- | --- | --- |
    | input | 10 symbols, T − 1 blanks, marker, 10 blanks | 10 symbols, T blanks, marker, 9 blanks |
    | target | T + 10 blanks, the 10 symbols | T + 10 blanks, the 10 symbols |
    | the first symbol is asked for | one step after the marker | together with the marker |
    | by | Arjovsky, Shah & Bengio 2016 | Helfrich et al. 2018; Lezcano-Casado & Martínez-Rubio 2019 |

    Without memory, blanks can be told with certainty and the ten symbols be guessed among eight: a cross-entropy of
    10 ln 8 / (T + 20) nats per step in both conventions, which is `chance`. The network has 9 outputs: the marker is
    never asked for. The task counts as solved when at most 1 % of sequences have a wrong symbol.

    Args:
        convention: a column of the table.
        length: T, in steps.
        variable: T is drawn anew for each batch from U{1, …, `length`}, as in the variable copy task of Tallec &
            Ollivier 2018; chance is then the mean over the lengths of the test split.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set, where T does not vary, such as the 100,000 of Arjovsky et al.;
            null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.
    """
    after_marker = RECALLED if convention == "urnn" else RECALLED - 1
    lengths = (1 if variable else length) + 2 * RECALLED, length + 2 * RECALLED
    return Generated(
        name="copying",
        outputs=MARKER,
        features=MARKER + 1,
        lengths=lengths,
        draw=lambda count, steps, generator: _draw(count, steps, after_marker, generator),
        objective=StepwiseCrossEntropy(RECALLED),
        guess=Guess(_baseline(lengths, test_size), 0.0),  # the same on every sequence of a length
        every_step=True,
        solved=Criterion("wrong", 0.01, at_most=True),
        to_input=lambda x_BT, dtype: one_hot(x_BT.long(), MARKER + 1).to(dtype),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def _draw(count: int, steps: int, after_marker: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols as uint8 [B, T] both: a fixed training set is stored so."""
    symbols = integers(1, MARKER, (count, RECALLED), generator).to(torch.uint8)
    blank = symbols.new_full((count, steps - RECALLED), BLANK)
    x = torch.cat([symbols, blank], 1)
    x[:, steps - after_marker - 1] = MARKER
    return x, torch.cat([blank, symbols], 1)


def _baseline(lengths: tuple[int, int], size: int) -> float:
    sizes = [min(BLOCK, size - k * BLOCK) for k in range(-(-size // BLOCK))]
    steps = block_lengths(lengths, size)
    return sum(n * RECALLED * math.log(8) / t for n, t in zip(sizes, steps, strict=True)) / size
