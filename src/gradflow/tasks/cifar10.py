"""CIFAR-10."""

from __future__ import annotations

from pathlib import Path

from gradflow.checked import Seed, Several
from gradflow.tasks import torchvision_data
from gradflow.tasks.classification import Classification, Splits
from gradflow.tasks.resident import Standardization

# mean and deviation of each channel over the 50,000 training images
STANDARDIZE = Standardization(255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
HELD_OUT = 5_000


def cifar10(*, batch_size: Several = 128, split_seed: Seed = 0, augment: bool = False) -> Classification:
    """60,000 colour images of 32×32 pixels (Krizhevsky 2009): 45,000 train, 5,000 validation, 10,000 test.

    The 45,000 / 5,000 split is that of He et al. 2016, section 4.2.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        augment: pad by 4 pixels, crop at random, mirror half of the images (He et al. 2016, section 4.2).
    """

    def prepare(folder: Path) -> None:
        torchvision_data.prepare(_dataset(), "cifar10", folder, "cifar-10-batches-py/data_batch_1 and its like")

    def read(folder: Path) -> tuple[Splits, Standardization]:
        return torchvision_data.read(_dataset(), folder, HELD_OUT, split_seed), STANDARDIZE

    pad = 4 if augment else 0
    return Classification(
        "cifar10", (3, 32, 32), 10, 50_000 - HELD_OUT, batch_size, prepare, read, pad=pad, flip=augment
    )


def _dataset() -> torchvision_data.Dataset:
    from torchvision.datasets import CIFAR10  # a second to import: only where it is used

    dataset: torchvision_data.Dataset = CIFAR10
    return dataset
