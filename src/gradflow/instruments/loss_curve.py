"""The loss, step by step, beside what the instruments say of the same steps."""

from __future__ import annotations

import torch
from torch import Tensor

from gradflow.instruments import ranks
from gradflow.instruments.instrument import Instrument, Reading, Row, Update
from gradflow.instruments.wide import present, widened

ROW = Row("all", None, "loss")


class LossCurve(Instrument):
    """`loss`, of name 'all': the loss that was differentiated for an update, in its own unit. Parts of it, such as
    those of accumulated batches, add up; over processes it is the mean, as gradients are. What its shape says
    (plateaus, spikes, stagnation) is asked in `gradflow.diagnosis`.

    It is known in Lightning; in a loop of one's own only if `flow.loss(loss)` is called before each `backward()`.
    """

    of_loss_alone = True

    def __init__(self) -> None:
        super().__init__()
        self._sum: Tensor | None = None

    def due(self, step: int) -> bool:
        """Always: at a step that is not to be measured, what was added up for it must be forgotten."""
        return True

    def measures(self, step: int) -> bool:
        return super().due(step)

    def loss(self, value: Tensor) -> None:
        value = present(widened(value.detach().sum()).clone())
        self._sum = value if self._sum is None else self._sum + value

    def before_clipping(self, update: Update) -> Reading | None:
        """The loss of this update; of two optimisers after one backward pass, the first takes it."""
        whole, self._sum = self._sum, None
        if whole is None or not super().due(update.step):
            return None
        return Reading([ROW], ranks.mean(whole.view(1)))

    def of_steps(self, losses: Tensor) -> list[Reading]:
        """The readings of n updates in a row, each of one loss [n], that nobody told it of."""
        return [Reading([ROW], value) for value in torch.split(present(widened(losses.detach())), 1)]
