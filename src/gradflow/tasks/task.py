"""What every task has in common: the one interface that training, plans and records see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from gradflow.tasks.resident import Splits, ToInput, TrainBatches


@dataclass(frozen=True)
class TaskData:
    """A task's data on the training device.

    Attributes:
        train: the batch of any step.
        splits: {"train", "val", "test"}, as stored.
        to_input: turns stored examples into what the network takes.
    """

    train: TrainBatches
    splits: Splits
    to_input: ToInput

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples start … stop of a split, in order, not augmented."""
        examples = self.splits[split]
        return self.to_input(examples.x[start:stop], dtype), examples.y[start:stop]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What is learned. Everything but the data is known before any data are read.

    Attributes:
        name: the task's word in tables.
        outputs: numbers that the network gives per example.
        train_size: examples in the training split.
        batch_size: examples per optimiser step, over all processes together.
        prepare: sees to it that the data are in a folder, or raises `ConfigError`.
        metric: the headline figure, one of those that `score` gives.
        larger_is_better: of that figure.

    Raises:
        ValueError: if a batch is larger than the training split.
    """

    metric: ClassVar[str]
    larger_is_better: ClassVar[bool]

    name: str
    outputs: int
    train_size: int
    batch_size: int
    prepare: Callable[[Path], None]

    def __post_init__(self) -> None:
        if self.batch_size > self.train_size:
            raise ValueError(f"task.batch_size={self.batch_size} exceeds the {self.train_size} training examples")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training split."""
        return self.train_size // self.batch_size

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the network sees it."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """What the best guess that does not look at the input scores on `metric`."""

    @abstractmethod
    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> TaskData:
        """Read the data and put them on `device`; `seed` orders and augments the training batches.

        Args:
            folder: where `prepare` has seen the data.
            seed: the run's.
            device: where training happens.
            rank, world: this process and how many there are.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What training minimises: the mean over a batch of outputs [B, outputs] and its targets."""

    @abstractmethod
    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch of 'loss' and `metric`, in float64, so that batches of any size add up."""

    @abstractmethod
    def with_label_smoothing(self, value: float) -> Self:
        """The same task with smoothed labels in its training loss.

        Raises:
            ValueError: if the task has no classes and `value` is not 0.
        """
