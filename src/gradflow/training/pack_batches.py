"""The batches of K learners: [K, B, …]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradflow.tasks.resident import TrainBatches
from gradflow.training.learner import Learner


class PackBatches:
    """Of learners whose batches are taken from the same examples, in one go for all; else one after another.

    Args:
        step: at which it is seen whether both give the same numbers.
    """

    def __init__(self, learners: Sequence[Learner], step: int) -> None:
        self._learners = list(learners)
        self._dtype = next(learners[0].network.parameters()).dtype
        trains = [learner.data.train for learner in learners]
        self._trains = [train for train in trains if isinstance(train, TrainBatches)]
        self._epoch = -1
        self._draws: list[Tensor] = []
        self._joint = len(self._trains) == len(trains) and all(map(self._trains[0].is_like, self._trains))
        if self._joint:
            one_by_one, at_once = self._one_by_one(step), self._at_once(step)
            self._joint = one_by_one is not None and all(map(torch.equal, one_by_one, at_once))

    def __call__(self, step: int) -> tuple[Tensor, Tensor] | None:
        """x [K, B, …] and y [K, B, …] of a step; None where the learners' sequences differ in length."""
        return self._at_once(step) if self._joint else self._one_by_one(step)

    def _at_once(self, step: int) -> tuple[Tensor, Tensor]:
        first = self._trains[0]
        epoch, k = divmod(step, first.steps_per_epoch)
        if epoch != self._epoch:
            theirs = [train.draws(epoch) for train in self._trains]
            self._epoch, self._draws = epoch, [torch.stack(part) for part in zip(*theirs, strict=True)]
        order, corner, mirrored = (draw[:, first.share(k)].flatten(0, 1) for draw in self._draws)
        x, y = first.take(order, corner, mirrored, self._dtype)
        count = len(self._learners)
        return x.view(count, -1, *x.shape[1:]), y.view(count, -1, *y.shape[1:])

    def _one_by_one(self, step: int) -> tuple[Tensor, Tensor] | None:
        pairs = [learner.data.train(step, self._dtype) for learner in self._learners]
        if len({(x.shape, y.shape) for x, y in pairs}) > 1:
            return None
        return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
