"""Image classification: the task that all data sets of labelled images share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from gradflow.rng import stream
from gradflow.tasks.noise_padding import NoisePadded
from gradflow.tasks.resident import Splits, Standardization, TrainBatches
from gradflow.tasks.task import Data, Task, TaskData
from gradflow.tasks.views import View, viewed, viewed_shape


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Labelled images, cross-entropy and accuracy; `outputs` is the number of classes.

    Attributes:
        image_shape: [channels, height, width].
        read: reads a folder into {"train", "val", "test"} and the standardisation that belongs to them.
        view: how the network sees an image, after augmentation; see `viewed`.
        standardize: whether each channel has mean 0 and deviation 1; if not, pixels are shades in [0, 1].
        pad: pixels of zero padding before a random crop of the training images; 0 for no crop.
        flip: whether half of the training images are mirrored left to right.
        permutation_seed: of a permutation of the time steps of a sequence, the same for every image; None: in order.
        noise_steps: steps of noise N(0, 1) behind a sequence; see `NoisePadded`.
        label_smoothing: ε, the share of the target that training spreads evenly over the classes.
        most_frequent: the share of test examples that are of the most frequent class; None: classes are alike.
    """

    image_shape: tuple[int, int, int]
    read: Callable[[Path], tuple[Splits, Standardization]]
    view: View = "image"
    standardize: bool = True
    pad: int = 0
    flip: bool = False
    permutation_seed: int | None = None
    noise_steps: int = 0
    label_smoothing: float = 0.0
    most_frequent: float | None = None

    @property
    def metric(self) -> str:
        return "accuracy"

    @property
    def larger_is_better(self) -> bool:
        return True

    @property
    def input_shape(self) -> tuple[int, ...]:
        shape = viewed_shape(self.image_shape, self.view)
        return (shape[0] + self.noise_steps, *shape[1:])

    @property
    def chance(self) -> float:
        """The accuracy of naming one class whatever the input, the most frequent one where they are not alike: what a
        network scores whose signal has died on the way."""
        return 1 / self.outputs if self.most_frequent is None else self.most_frequent

    def chance_error(self, count: int) -> float:
        """√(p (1 − p) / n) for a share of right answers, each right with probability p = `chance`."""
        return math.sqrt(self.chance * (1 - self.chance) / count)

    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> Data:
        splits, standardization = self.read(folder)
        scale = standardization if self.standardize else standardization.without_moments()
        order = None if self.permutation_seed is None else self.permutation(self.permutation_seed).to(device)

        def to_input(x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
            x = viewed(scale(x_BCHW, dtype), self.view)
            if x.ndim == 4 and x.shape[1] > 1:
                return x.contiguous(memory_format=torch.channels_last)  # which convolutions are quicker on
            return x if order is None else x[:, order]

        resident = {name: split.to(device) for name, split in splits.items()}
        train = TrainBatches(
            resident["train"], self.batch_size, seed, to_input, pad=self.pad, flip=self.flip, rank=rank, world=world
        )
        data = TaskData(train, resident, to_input)
        return NoisePadded(data, self.noise_steps, seed) if self.noise_steps else data

    def permutation(self, seed: int) -> Tensor:
        """Step k of a permuted sequence is step `permutation(seed)[k]` of the one in order."""
        steps = viewed_shape(self.image_shape, self.view)[0]
        return torch.randperm(steps, generator=stream(seed, "permutation", steps))

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats of logits [B, classes] against labels [B], smoothed by ε = `label_smoothing`.

        (1 − ε) · (−log p_y) + ε · mean over classes k of −log p_k (Szegedy et al. 2016, section 7).
        """
        return cross_entropy(outputs, y, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Sums over the batch, in float64: cross-entropy in nats, never smoothed, and the number of right answers.

        Without smoothing, losses of runs that differ in it can be compared.
        """
        loss = cross_entropy(outputs.double(), y, reduction="sum")
        return {"loss": loss, "accuracy": (outputs.argmax(-1) == y).sum().double()}

    def regression_targets(self, y: Tensor) -> Tensor:
        return one_hot(y, self.outputs).float()

    def with_label_smoothing(self, value: float) -> Self:
        return replace(self, label_smoothing=value)
