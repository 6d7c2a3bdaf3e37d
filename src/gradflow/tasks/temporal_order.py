"""The temporal order problem, in two conventions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gradflow.checked import Seed, Several
from gradflow.tasks.criterion import Criterion
from gradflow.tasks.draws import integers
from gradflow.tasks.generated import Draw, Generated, Guess
from gradflow.tasks.objectives import CrossEntropy

# (first, last) position of each of the two or three symbols that matter, in hundredths of T
RANGES = {
    ("hochreiter1997", 2): ((10, 20), (50, 60)),
    ("hochreiter1997", 3): ((10, 20), (33, 43), (66, 76)),
    ("pascanu2013", 2): ((10, 20), (50, 60)),
    ("pascanu2013", 3): ((10, 20), (30, 40), (60, 70)),
}
START, TRIGGER = 6, 7  # of hochreiter1997's alphabet; 0 and 1 matter, 2 to 5 distract


def temporal_order(
    *,
    convention: Literal["hochreiter1997", "pascanu2013"] = "pascanu2013",
    symbols: Literal[2, 3] = 2,
    length: Several = 50,
    batch_size: Several = 20,
    train_size: Several | None = None,
    val_size: Several = 2_000,
    test_size: Several = 10_000,
    data_seed: Seed = 0,
) -> Generated:
    """Tell in which order two or three symbols came, each of two kinds, among many that do not matter.

    There are 4 or 8 classes. x is one-hot, [B, T, 8] or [B, T, 6]; positions count from 0, in percent of T:

    | | hochreiter1997 | pascanu2013 |
    | --- | --- | --- |
    | alphabet | two that matter, four that distract, a start, a trigger | two that matter, four that distract |
    | steps | T … T + T/10 | T |
    | two symbols at | [10, 20], [50, 60] | [10, 20), [50, 60) |
    | three symbols at | [10, 20], [33, 43], [66, 76] | [10, 20), [30, 40), [60, 70) |

    'hochreiter1997' is experiment 6 of Hochreiter & Schmidhuber 1997, who have T = 100; sequences begin with the start
    symbol and end with the trigger. They call an answer right if every one of its outputs is off by less than 0.3;
    here it is the largest output that counts. 'pascanu2013' is that of Pascanu, Mikolov & Bengio 2013, figure 7, who
    call it solved with fewer than 1 % wrong; here an accuracy of 99 % is enough.

    Args:
        convention: a column of the table.
        symbols: how many matter.
        length: T, in steps.
        batch_size: sequences per step; Pascanu et al. have 20.
        train_size: sequences in a fixed training set, for 'pascanu2013' alone; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if `length` is below 10 steps, and what `Generated` refuses.
    """
    if length < 10:
        raise ValueError(f"task.length={length} leaves the symbols no room: set task.length to 10 or more")
    framed = convention == "hochreiter1997"
    features, classes = (8 if framed else 6), 2**symbols
    places = [(length * first // 100, length * last // 100 + framed) for first, last in RANGES[convention, symbols]]
    return Generated(
        name="temporal_order",
        outputs=classes,
        features=features,
        lengths=(length, length + length // 10 if framed else length),
        draw=_drawing(places, framed),
        objective=CrossEntropy(),
        guess=Guess.of_classes(classes),
        solved=Criterion("accuracy", 0.99, at_most=False),
        to_input=lambda x_BT, dtype: one_hot(x_BT.long(), features).to(dtype),
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


def _drawing(places: list[tuple[int, int]], framed: bool) -> Draw:
    """Symbols as uint8 [B, T]; `places` are half-open ranges of positions."""

    def draw(count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BT = integers(2, 6, (count, steps), generator)
        kind_BS = integers(0, 2, (count, len(places)), generator)
        place_BS = torch.stack([integers(first, end, (count,), generator) for first, end in places], 1)
        x_BT.scatter_(1, place_BS, kind_BS)
        if framed:
            x_BT[:, 0], x_BT[:, -1] = START, TRIGGER
        # the first symbol is the highest bit: classes 0, 1, 2, 3 are XX, XY, YX, YY
        weight_S = 2 ** torch.arange(len(places) - 1, -1, -1, device=x_BT.device)
        return x_BT.to(torch.uint8), (kind_BS * weight_S).sum(1)

    return draw
