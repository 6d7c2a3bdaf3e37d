"""Sequential CIFAR-10."""

from __future__ import annotations

from typing import Literal

from gradflow.checked import Seed, Several
from gradflow.tasks.cifar10 import STANDARDIZE
from gradflow.tasks.classification import Classification
from gradflow.tasks.torchvision_data import torchvision_task
from gradflow.tasks.views import View


def sequential_cifar10(
    *, by: Literal["pixel", "row"] = "pixel", batch_size: Several = 128, split_seed: Seed = 0, standardize: bool = True
) -> Classification:
    """CIFAR-10 in colour, read pixel by pixel or row by row.

    The class is asked for at the end. Splits are those of `cifar10`; nothing is augmented.

    Args:
        by: 'pixel': x is [B, 1024, 3], row by row; 'row': x is [B, 32, 96], channel by channel.
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        standardize: each channel to mean 0 and deviation 1; false: pixels in [0, 1].
    """
    view: View = "sequence" if by == "pixel" else "rows"
    return cifar10_steps("sequential_cifar10", view, batch_size, split_seed, standardize)


def cifar10_steps(
    name: str, view: View, batch_size: int, split_seed: int, standardize: bool, noise_steps: int = 0
) -> Classification:
    """CIFAR-10 as sequences, under any name."""
    return torchvision_task(
        name,
        "CIFAR10",
        "cifar-10-batches-py/data_batch_1 and its like",
        (3, 32, 32),
        10,
        50_000,
        STANDARDIZE,
        batch_size=batch_size,
        split_seed=split_seed,
        pad=0,
        flip=False,
        view=view,
        standardize=standardize,
        noise_steps=noise_steps,
    )
