"""Image classification: the task that all data sets of labelled images share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gradflow.tasks.resident import Split, Standardization, TrainBatches

Splits = dict[str, Split]


@dataclass(frozen=True)
class Classification:
    """Labelled images, cross-entropy and accuracy.

    Attributes:
        name: the task's word in tables.
        input_shape: [channels, height, width].
        outputs: number of classes.
        train_size: examples in the training split, known before any data is read.
        batch_size: examples per optimiser step.
        prepare: sees to it that the data are in a folder, or raises `ConfigError`.
        read: reads that folder into {"train", "val", "test"} and the standardisation that belongs to them.
        pad, flip: augmentation of the training batches.
        metric: the headline figure; larger is better.
        chance: what guessing scores on it.
    """

    name: str
    input_shape: tuple[int, int, int]
    outputs: int
    train_size: int
    batch_size: int
    prepare: Callable[[Path], None]
    read: Callable[[Path], tuple[Splits, Standardization]]
    pad: int = 0
    flip: bool = False
    metric: str = "accuracy"
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chance", 1 / self.outputs)
        if self.batch_size > self.train_size:
            raise ValueError(f"task.batch_size={self.batch_size} exceeds the {self.train_size} training examples")

    @property
    def steps_per_epoch(self) -> int:
        return self.train_size // self.batch_size

    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> TaskData:
        """Read the data and put them on `device`; `seed` orders and augments the training batches."""
        splits, standardize = self.read(folder)
        resident = {name: split.to(device) for name, split in splits.items()}
        train = TrainBatches(
            resident["train"], self.batch_size, seed, standardize, pad=self.pad, flip=self.flip, rank=rank, world=world
        )
        return TaskData(train, resident, standardize)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats of logits [B, classes] against labels [B]."""
        return torch.nn.functional.cross_entropy(outputs, y)

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch of each figure, in float64: cross-entropy in nats, number of right answers."""
        loss = torch.nn.functional.cross_entropy(outputs.double(), y, reduction="sum")
        return {"loss": loss, "accuracy": (outputs.argmax(-1) == y).sum().double()}


@dataclass(frozen=True)
class TaskData:
    """A task's data on the training device."""

    train: TrainBatches
    splits: Splits
    standardize: Standardization

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Examples start … stop of a split, in order, not augmented."""
        examples = self.splits[split]
        return self.standardize(examples.x[start:stop], dtype), examples.y[start:stop]
