"""MNIST."""

from __future__ import annotations

from pathlib import Path

from gradflow.checked import Seed, Several
from gradflow.tasks import torchvision_data
from gradflow.tasks.classification import Classification, Splits
from gradflow.tasks.resident import Standardization

STANDARDIZE = Standardization(255, (0.1307,), (0.3081,))  # mean and deviation of the 60,000 training images
HELD_OUT = 5_000


def mnist(*, batch_size: Several = 128, split_seed: Seed = 0, augment: bool = False) -> Classification:
    """70,000 grey images of 28×28 pixels (LeCun et al. 1998): 55,000 train, 5,000 validation, 10,000 test.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        augment: pad by 2 pixels and crop at random.
    """

    def prepare(folder: Path) -> None:
        torchvision_data.prepare(_dataset(), "mnist", folder, "MNIST/raw/train-images-idx3-ubyte[.gz] and its like")

    def read(folder: Path) -> tuple[Splits, Standardization]:
        return torchvision_data.read(_dataset(), folder, HELD_OUT, split_seed), STANDARDIZE

    return Classification(
        "mnist", (1, 28, 28), 10, 60_000 - HELD_OUT, batch_size, prepare, read, pad=2 if augment else 0
    )


def _dataset() -> torchvision_data.Dataset:
    from torchvision.datasets import MNIST  # a second to import: only where it is used

    dataset: torchvision_data.Dataset = MNIST
    return dataset
