"""What a generated task asks of a network's outputs: training loss and scores.

Shapes: B batch, T time, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot


class Objective(Protocol):
    """A loss and what is scored beside it; `metric` is the headline figure."""

    @property
    def metric(self) -> str: ...

    @property
    def larger_is_better(self) -> bool: ...

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean over the batch."""

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch, in float64."""

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        """Float targets of the outputs' shape."""


@dataclass(frozen=True)
class SquaredError:
    """The mean squared error 'mse' of outputs [B, K], and 'wrong', the share of sequences answered wrongly.

    Attributes:
        tolerance: an answer is right if every output is off by less than this.
    """

    tolerance: float
    metric: str = "mse"
    larger_is_better: bool = False

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean()

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        error_BK = outputs.double() - y.double()
        square = error_BK.square().mean(-1).sum()
        right = (error_BK.abs() < self.tolerance).all(-1)  # NaN is not
        return {"loss": square, "mse": square, "wrong": (~right).sum().double()}

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        return y


@dataclass(frozen=True)
class NormalizedSquaredError:
    """The squared error of outputs [B, T, K], and 'nmse', the same divided by the targets' variance.

    Its square root is the NRMSE of the literature on echo state networks.

    Attributes:
        variance: of the targets, a constant of the task, so that the figure of one sequence does not depend on others.
    """

    variance: float
    metric: str = "nmse"
    larger_is_better: bool = False

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean()

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        square = (outputs.double() - y.double()).square().flatten(1).mean(1).sum()
        return {"loss": square, "nmse": square / self.variance}

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        return y


@dataclass(frozen=True)
class CrossEntropy:
    """One label [B] per sequence from logits [B, K]: cross-entropy in nats, and accuracy."""

    metric: str = "accuracy"
    larger_is_better: bool = True

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(outputs, y)

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        loss = cross_entropy(outputs.double(), y, reduction="sum")
        return {"loss": loss, "accuracy": (outputs.argmax(-1) == y).sum().double()}

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        return one_hot(y, outputs).float()


@dataclass(frozen=True)
class StepwiseCrossEntropy:
    """A label [B, T] at every step from logits [B, T, K]: 'cross_entropy' in nats, a mean over a sequence's steps.

    'accuracy' is the share of right labels among the last `recalled` steps, 'wrong' the share of sequences with a
    wrong one among them.
    """

    recalled: int
    metric: str = "cross_entropy"
    larger_is_better: bool = False

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(outputs.flatten(0, 1), y.flatten().long())

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        y = y.long()
        nats = cross_entropy(outputs.double().flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]
        right_BT = outputs[:, -self.recalled :].argmax(-1) == y[:, -self.recalled :]
        return {
            "loss": nats,
            "cross_entropy": nats,
            "accuracy": right_BT.double().mean(1).sum(),
            "wrong": (~right_BT.all(1)).sum().double(),
        }

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        return one_hot(y.long(), outputs).to(torch.float32)
