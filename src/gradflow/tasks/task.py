"""What every task has in common: the one interface that training, plans and records see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from gradflow.tasks.criterion import Criterion
from gradflow.tasks.resident import Splits, ToInput, TrainBatches


class Data(Protocol):
    """A task's data on the training device, read from a folder or drawn there."""

    def train(self, step: int, dtype: torch.dtype = torch.float32, /) -> tuple[Tensor, Tensor]:
        """The training batch of `step` (0 is the first), this process's share of it: x as the network takes it, y."""

    def size(self, split: str) -> int:
        """How many examples a split has: 'val' or 'test', or 'train' where its examples are finite in number."""

    def slices(self, split: str, most: int) -> list[tuple[int, int]]:
        """(start, stop) of batches that cover a split in order, each of at most `most` examples of one shape."""

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples start … stop of a split, in order: always the same ones."""


@dataclass(frozen=True)
class TaskData:
    """`Data` of which every split lies in memory.

    Attributes:
        train: the batch of any step.
        splits: {"train", "val", "test"}, as stored.
        to_input: turns stored examples into what the network takes.
    """

    train: TrainBatches
    splits: Splits
    to_input: ToInput

    def size(self, split: str) -> int:
        return len(self.splits[split])

    def slices(self, split: str, most: int) -> list[tuple[int, int]]:
        return [(start, min(start + most, self.size(split))) for start in range(0, self.size(split), most)]

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples start … stop of a split, in order, not augmented."""
        examples = self.splits[split]
        return self.to_input(examples.x[start:stop], dtype), examples.y[start:stop]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What is learned. Everything but the data is known before any data are read.

    Attributes:
        name: the task's word in tables.
        outputs: numbers that the network gives per example, or per step where `every_step`.
        train_size: examples in the training split; None: every step has examples never seen before.
        batch_size: examples per optimiser step, over all processes together.
        prepare: sees to it that the data are in a folder, or raises `ConfigError`.
        every_step: whether outputs [B, T, outputs] are wanted for every step of a sequence, instead of [B, outputs].
        washout: first steps of every sequence that neither loss nor score nor a closed-form read-out counts.
        solved: when the task counts as solved, judged on the validation split's figures; None: nobody says.

    Raises:
        ValueError: if a batch is larger than the training split.
    """

    name: str
    outputs: int
    train_size: int | None
    batch_size: int
    prepare: Callable[[Path], None]
    every_step: bool = False
    washout: int = 0
    solved: Criterion | None = None

    def __post_init__(self) -> None:
        if self.train_size is not None and self.batch_size > self.train_size:
            raise ValueError(f"task.batch_size={self.batch_size} exceeds the {self.train_size} training examples")

    @property
    def steps_per_epoch(self) -> int | None:
        """Whole batches in the training split; None where there is no end of examples."""
        return None if self.train_size is None else self.train_size // self.batch_size

    @property
    @abstractmethod
    def metric(self) -> str:
        """The headline figure, one of those that `score` gives."""

    @property
    @abstractmethod
    def larger_is_better(self) -> bool:
        """Of the metric."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the network sees it; of the longest one where lengths vary."""

    @property
    def shortest(self) -> int | None:
        """Steps of the shortest sequence, where lengths vary; None where all examples have one shape."""
        return None

    @property
    @abstractmethod
    def chance(self) -> float:
        """What can be scored on `metric` without memory.

        That is the best guess that does not look at the input, or the task's published memory-less baseline.
        """

    @abstractmethod
    def chance_error(self, count: int) -> float | None:
        """The standard error over `count` test examples of what that guess scores; None: not known."""

    @abstractmethod
    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> Data:
        """Put the data on `device`; `seed` draws, orders and augments the training batches.

        Args:
            folder: where `prepare` has seen the data.
            seed: the run's.
            device: where training happens.
            rank, world: this process and how many there are.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What training minimises: the mean over a batch of outputs [B, outputs] or [B, T, outputs] and its targets."""

    @abstractmethod
    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch of 'loss' and `metric`, in float64, so that batches of any size add up; see `figures`."""

    def figures(self, sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        """What is reported of a split of `count` examples, one number each, from what `score` gives summed over all of
        them: the means, unless a task has a figure that is no mean over examples.
        """
        return {name: total / count for name, total in sums.items()}

    @abstractmethod
    def regression_targets(self, y: Tensor) -> Tensor:
        """Float targets [B, outputs] or [B, T, outputs] for a read-out by least squares: classes become one-hot."""

    @abstractmethod
    def with_label_smoothing(self, value: float) -> Self:
        """The same task with smoothed labels in its training loss.

        Raises:
            ValueError: if the task has no classes that it smooths and `value` is not 0.
        """
