"""Tasks whose sequences are drawn on the training device, as many as training asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gradflow.rng import stream
from gradflow.tasks.draws import BLOCK, blocks, generator_on
from gradflow.tasks.objectives import Objective
from gradflow.tasks.resident import Split, ToInput, TrainBatches
from gradflow.tasks.task import Data, Task

# (count, steps, generator) → x [count, steps, …] and y [count, …], on the generator's device
Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Guess:
    """What guessing without memory scores on the metric.

    Attributes:
        mean: on average.
        deviation: from one sequence to another, or what works it out when it is asked for.
    """

    mean: float
    deviation: float | Callable[[], float]

    @staticmethod
    def of_classes(classes: int) -> Guess:
        """The accuracy of a guess among classes that are equally frequent.

        >>> Guess.of_classes(2)
        Guess(mean=0.5, deviation=0.5)
        """
        share = 1 / classes
        return Guess(share, math.sqrt(share * (1 - share)))


@dataclass(frozen=True, kw_only=True)
class Generated(Task):
    """Sequences drawn from a distribution.

    The training batch of step k is a function of (the run's seed, k) alone, or, where `train_size` is given, one of
    a fixed set that is a function of `data_seed`. Validation and test sequences are functions of `data_seed` and
    their place in the split, the same for every run; they are drawn anew whenever they are looked at, never stored.
    The same seed gives other numbers on a GPU than on a CPU.

    Sequences of one batch have one length, so that nothing is padded or masked (Pascanu et al. 2013 do the same). In
    training it is drawn uniformly from `lengths`; in evaluation the lengths of blocks are spread evenly over them.

    Attributes:
        features: numbers per step, after `to_input`.
        lengths: (shortest, longest) in steps.
        draw: draws sequences of one length.
        objective: loss and scores.
        guess: what the best guess scores on the metric.
        val_size, test_size: sequences in these splits.
        data_seed: of validation, test, and a fixed training set.
        to_input: from what `draw` gives, or what is stored of it, to what the network takes.

    Raises:
        ValueError: if a fixed training set is asked for, but lengths vary; if the washout leaves nothing to score.
    """

    features: int
    lengths: tuple[int, int]
    draw: Draw
    objective: Objective
    guess: Guess
    val_size: int
    test_size: int
    data_seed: int
    to_input: ToInput = Tensor.to

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest, longest = self.lengths
        if self.train_size is not None and shortest < longest:
            raise ValueError(
                f"task.train_size={self.train_size} needs sequences of one length, but those of task={self.name} have "
                f"{shortest} to {longest} steps: set task.train_size=null, or task.convention or task.variable to what "
                f"has one length"
            )
        if self.washout >= shortest:
            raise ValueError(
                f"task.washout={self.washout} leaves nothing of {shortest} steps to learn from: "
                f"set task.washout below task.length"
            )

    @property
    def metric(self) -> str:
        return self.objective.metric

    @property
    def larger_is_better(self) -> bool:
        return self.objective.larger_is_better

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.lengths[1], self.features

    @property
    def shortest(self) -> int | None:
        return self.lengths[0] if self.lengths[0] < self.lengths[1] else None

    @property
    def chance(self) -> float:
        return self.guess.mean

    def chance_error(self, count: int) -> float:
        deviation = self.guess.deviation
        return (deviation() if callable(deviation) else deviation) / math.sqrt(count)

    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> Data:
        return GeneratedData(self, seed, device, rank, world)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.objective.loss(*self._counted(outputs, y))

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        return self.objective.score(*self._counted(outputs, y))

    def regression_targets(self, y: Tensor) -> Tensor:
        return self.objective.targets(y, self.outputs)

    def with_label_smoothing(self, value: float) -> Self:
        if value:
            raise ValueError(
                f"label_smoothing={value} is for labelled images, but task={self.name} is generated: "
                f"set label_smoothing=0"
            )
        return self

    def _counted(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (outputs[:, self.washout :], y[:, self.washout :]) if self.washout else (outputs, y)


class GeneratedData:
    """`Data` of a generated task.

    Args:
        task: what is drawn.
        seed: the run's.
        device: where it is drawn.
        rank, world: this process and how many there are; each takes every `world`-th sequence of a batch.

    Raises:
        ValueError: if a batch does not divide among the processes, whose gradients are averaged with equal weights.
    """

    def __init__(self, task: Generated, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        if task.batch_size % world:
            raise ValueError(f"task.batch_size={task.batch_size} does not divide among {world} processes")
        self._task, self._seed, self._device, self._mine = task, seed, device, slice(rank, None, world)
        self._fixed: TrainBatches | None = None
        if task.train_size is not None:
            split = Split(*self._drawn("train", 0, task.train_size))
            self._fixed = TrainBatches(split, task.batch_size, seed, task.to_input, rank=rank, world=world)

    def train(self, step: int, dtype: torch.dtype = torch.float32, /) -> tuple[Tensor, Tensor]:
        if self._fixed is not None:
            return self._fixed(step, dtype)
        task, name = self._task, (self._seed, self._task.name, "train", step)
        shortest, longest = task.lengths
        steps = int(torch.randint(shortest, longest + 1, (), generator=stream(*name, "length")))
        # all of the batch, on every process, so that it does not depend on how many there are
        x, y = task.draw(task.batch_size, steps, generator_on(self._device, *name))
        return task.to_input(x[self._mine], dtype), y[self._mine]

    def size(self, split: str) -> int:
        size = {"train": self._task.train_size, "val": self._task.val_size, "test": self._task.test_size}[split]
        if size is None:
            raise ValueError(f"task={self._task.name} has no end of training examples: set task.train_size")
        return size

    def slices(self, split: str, most: int) -> list[tuple[int, int]]:
        shortest, longest = self._task.lengths
        size, piece = self.size(split), BLOCK if shortest < longest else self.size(split)
        return [
            (start, min(start + most, end, size))
            for begin, end in ((begin, begin + piece) for begin in range(0, size, piece))
            for start in range(begin, min(end, size), most)
        ]

    def evaluation(self, split: str, start: int, stop: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if split == "train" and self._fixed is not None:
            x, y = self._fixed.split.x[start:stop], self._fixed.split.y[start:stop]
        else:
            x, y = self._drawn(split, start, stop)
        return self._task.to_input(x, dtype), y

    def _drawn(self, split: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        task, size = self._task, self.size(split)
        lengths = block_lengths(task.lengths, size)
        parts = []
        for block, part in blocks(start, stop, BLOCK):
            generator = generator_on(self._device, task.data_seed, task.name, split, block)
            x, y = task.draw(BLOCK, lengths[block], generator)
            parts.append((x[part], y[part]))
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def block_lengths(lengths: tuple[int, int], size: int) -> list[int]:
    """The length of each block of an evaluated split of `size` sequences, spread evenly over what is possible.

    >>> block_lengths((100, 110), 500)
    [101, 103, 105, 107, 109]
    """
    shortest, longest = lengths
    count = -(-size // BLOCK)
    return [shortest + (2 * k + 1) * (longest - shortest + 1) // (2 * count) for k in range(count)]
