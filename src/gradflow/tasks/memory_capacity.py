"""The short-term memory of a network that is driven by noise.

Shapes: B sequences, T time, K delays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gradflow.checked import Count, Seed, Several
from gradflow.tasks.draws import uniform
from gradflow.tasks.generated import Generated, Guess

LARGEST = 0.5  # of the input, on either side of 0
ROUNDING = 1e-13  # a variance below this share of the mean square is one of rounding alone


def memory_capacity(
    *,
    delays: Several = 100,
    length: Several = 1_000,
    washout: Count = 200,
    batch_size: Several = 8,
    train_size: Several | None = None,
    val_size: Several = 10,
    test_size: Several = 50,
    data_seed: Seed = 0,
) -> Generated:
    """Give back the input of 1, 2, … `delays` steps ago at every step (Jaeger 2001, 'Short term memory in echo state
    networks').

    x is u(t) ~ U[−½, ½], independent from step to step, [B, T, 1]; the targets are u(t − k), [B, T, delays], the
    longest delay first. The loss is their mean squared error.

    The metric 'memory_capacity' is Σ_k r²_k, with r_k the correlation of the k-th output with its target over every
    counted step of every sequence of a split: one number of the whole split, not a mean over sequences. Larger is
    better. A reservoir of N units has at most N, the delay 0 included, which is not asked for: N linear units in a ring
    with weight w have N − (1 − w^{2N}). An output that knows nothing has an r² of 1/n on average over
    n counted steps, so that what is measured of a network without memory is not 0 but delays / n. Delays that are left
    out are memory that is not counted: `delays` is to be well above N, twice that for instance.

    Args:
        delays: K, the longest delay in steps.
        length: T, in steps.
        washout: first steps of every sequence that count neither for loss nor score: at step t < k the network has not
            seen its target.
        batch_size: sequences per step.
        train_size: sequences in a fixed training set; null: fresh ones at every step.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test and a fixed training set.

    Raises:
        ValueError: if the washout leaves nothing, or is shorter than the longest delay.
    """
    if washout < delays:
        raise ValueError(
            f"task.washout={washout} is below task.delays={delays}: the network would be asked for inputs from before "
            f"its sequence begins: set task.washout={delays} or more"
        )
    return MemoryCapacity(
        name="memory_capacity",
        outputs=delays,
        features=1,
        lengths=(length, length),
        draw=partial(draw, delays),
        objective=SquaredCorrelation(),
        guess=Guess(0.0, 0.0),  # a constant is not correlated with anything
        every_step=True,
        washout=washout,
        batch_size=batch_size,
        train_size=train_size,
        val_size=val_size,
        test_size=test_size,
        data_seed=data_seed,
        prepare=lambda _: None,
    )


class MemoryCapacity(Generated):
    """See `memory_capacity`."""

    def figures(self, sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        """'loss', and the capacity of the moments that `score` has summed."""
        return {"loss": sums["loss"] / count, self.metric: squared_correlations(sums[self.metric]).sum()}


@dataclass(frozen=True)
class SquaredCorrelation:
    """The squared error of outputs [B, T, K], and what it takes to know their correlations with the targets."""

    metric: str = "memory_capacity"
    larger_is_better: bool = True

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean()

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch: 'loss', and under the metric's name [6, K] that `squared_correlations` takes."""
        o_BTK, y_BTK = outputs.double(), y.double()
        ones = torch.ones_like(y_BTK)
        products = (ones, o_BTK, y_BTK, o_BTK.square(), y_BTK.square(), o_BTK * y_BTK)
        moments_6K = torch.stack([product.sum((0, 1)) for product in products])
        return {"loss": (o_BTK - y_BTK).square().mean((1, 2)).sum(), self.metric: moments_6K}

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        return y


def squared_correlations(moments_6K: Tensor) -> Tensor:
    """r² [K] from the sums of 1, o, y, o², y² and o·y; 0 where either is a constant, NaN where it is not finite."""
    (o, y, oo, yy, oy) = moments_6K[1:] / moments_6K[0]
    variance_o, variance_y = oo - o.square(), yy - y.square()
    constant = (variance_o <= ROUNDING * oo) | (variance_y <= ROUNDING * yy)
    return torch.where(constant, 0.0, (oy - o * y).square() / (variance_o * variance_y))


def draw(delays: int, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """u(t) [B, T, 1] and u(t − delays), …, u(t − 1) [B, T, delays], float32; the latter a view, which takes no room."""
    u_BT = uniform(-LARGEST, LARGEST, (count, delays + steps), generator)
    return u_BT[:, delays:].unsqueeze(2), u_BT[:, :-1].unfold(1, delays, 1)
