"""Sequential MNIST of a smaller image, in order or permuted: the same question in fewer steps.

Shapes: N examples, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.resident import Split, Splits, Standardization
from gradflow.tasks.sequential_mnist import mnist_pixels

SIDE = 28
# mean and deviation of the means of p×p pixels over the 60,000 training images: a mean varies less than its pixels
MEAN, DEVIATION = 0.1307, {2: 0.2801, 4: 0.2307}


def pooled_sequential_mnist(
    *,
    pool: Literal[2, 4] = 2,
    permutation_seed: Seed | None = None,
    batch_size: Several = 128,
    split_seed: Seed = 0,
    standardize: bool = True,
) -> Classification:
    """MNIST read by the mean of p×p pixels at a time, row by row: x is [B, (28/p)², 1].

    A quarter or a sixteenth of `sequential_mnist`'s 784 steps, for a protocol that fits a CPU; no published figure is
    for it. The class is asked for after the last step. Splits are those of `mnist`.

    Args:
        pool: p, the side of the square that is averaged: 2 leaves 14×14 = 196 steps, 4 leaves 7×7 = 49.
        permutation_seed: of one random order of the steps, the same for every image; null: row by row.
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        standardize: to mean 0 and deviation 1; false: shades in [0, 1].
    """
    pixels = mnist_pixels("pooled_sequential_mnist", batch_size, split_seed, standardize, permutation_seed)
    standardization = Standardization(255 * pool**2, (MEAN,), (DEVIATION[pool],))

    def read(folder: Path) -> tuple[Splits, Standardization]:
        splits, _ = pixels.read(folder)
        return {name: Split(summed(split.x, pool), split.y) for name, split in splits.items()}, standardization

    return replace(pixels, image_shape=(1, SIDE // pool, SIDE // pool), read=read)


def summed(x_N1HW: Tensor, pool: int) -> Tensor:
    """Sums over squares of `pool`×`pool` pixels, [N, 1, H/pool, W/pool]: whole numbers, so that means are exact."""
    side = SIDE // pool
    return x_N1HW.view(-1, 1, side, pool, side, pool).sum((3, 5), dtype=torch.int16)
