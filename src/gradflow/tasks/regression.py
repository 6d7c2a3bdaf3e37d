"""Regression: vectors to vectors of standardised targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gradflow.tasks.resident import Splits, TrainBatches
from gradflow.tasks.task import Data, Task, TaskData


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Float vectors, float targets of mean 0 and mean square 1, and the mean squared error.

    Attributes:
        inputs: numbers per example.
        read: reads a folder into {"train", "val", "test"}: x float [N, inputs], y float [N, outputs].
    """

    inputs: int
    read: Callable[[Path], Splits]

    @property
    def metric(self) -> str:
        return "mse"

    @property
    def larger_is_better(self) -> bool:
        return False

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.inputs,)

    @property
    def chance(self) -> float:
        """The error of predicting the mean: the variance of the targets, which is 1."""
        return 1.0

    def chance_error(self, count: int) -> float:
        """√(2 / (n k)): of the mean of n · k squares, k = `outputs`, each of a Gaussian target of variance 1.

        A square then has mean 1 and variance 2. This takes outputs to be independent, and `chance` to be exact;
        where N training examples set it, the square of the error is larger by the factor 1 + n / N.
        """
        return self.chance * math.sqrt(2 / (count * self.outputs))

    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> Data:
        resident = {name: split.to(device) for name, split in self.read(folder).items()}
        train = TrainBatches(resident["train"], self.batch_size, seed, Tensor.to, rank=rank, world=world)
        return TaskData(train, resident, Tensor.to)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean over batch and outputs of (outputs − y)²; both [B, outputs]."""
        return (outputs - y).square().mean()

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sum over the batch of each example's squared error, a mean over its outputs, in float64: loss and metric."""
        error = (outputs.double() - y.double()).square().mean(-1).sum()
        return {"loss": error, "mse": error}

    def regression_targets(self, y: Tensor) -> Tensor:
        return y

    def with_label_smoothing(self, value: float) -> Self:
        if value:
            raise ValueError(
                f"label_smoothing={value} needs classes, but task={self.name} is regression: set label_smoothing=0"
            )
        return self
