"""Image classification: the task that all data sets of labelled images share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradflow.tasks.resident import Splits, Standardization, TrainBatches
from gradflow.tasks.task import Task, TaskData
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
        label_smoothing: ε, the share of the target that training spreads evenly over the classes.
    """

    metric: ClassVar[str] = "accuracy"
    larger_is_better: ClassVar[bool] = True

    image_shape: tuple[int, int, int]
    read: Callable[[Path], tuple[Splits, Standardization]]
    view: View = "image"
    standardize: bool = True
    pad: int = 0
    flip: bool = False
    label_smoothing: float = 0.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        return viewed_shape(self.image_shape, self.view)

    @property
    def chance(self) -> float:
        """The accuracy of a guess among classes that are equally frequent."""
        return 1 / self.outputs

    def load(self, folder: Path, seed: int, device: torch.device, rank: int = 0, world: int = 1) -> TaskData:
        splits, standardization = self.read(folder)
        scale = standardization if self.standardize else standardization.without_moments()

        def to_input(x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
            return viewed(scale(x_BCHW, dtype), self.view)

        resident = {name: split.to(device) for name, split in splits.items()}
        train = TrainBatches(
            resident["train"], self.batch_size, seed, to_input, pad=self.pad, flip=self.flip, rank=rank, world=world
        )
        return TaskData(train, resident, to_input)

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

    def with_label_smoothing(self, value: float) -> Self:
        return replace(self, label_smoothing=value)
