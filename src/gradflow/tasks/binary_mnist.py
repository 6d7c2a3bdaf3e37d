"""MNIST in black and white."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.mnist import mnist_images
from gradflow.tasks.resident import Split, Splits, Standardization
from gradflow.tasks.views import View

WHITE = 128  # of 255: the first shade of the lighter half


def binary_mnist(*, batch_size: Several = 128, split_seed: Seed = 0, view: View = "image") -> Classification:
    """`mnist` with every pixel 0 or 1: the "28×28 binary image" of Ioffe & Szegedy 2015, section 4.1.

    The paper names no threshold. A pixel counts as 1 from half of full white on. Splits are those of `mnist`; pixels
    are not standardised.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        view: 'image' [1, 28, 28], 'flat' [784], 'sequence' [784, 1], pixel by pixel, or 'rows' [28, 28]; see `viewed`.
    """
    grey = mnist_images("binary_mnist", batch_size, split_seed, view=view, standardize=False)

    def read(folder: Path) -> tuple[Splits, Standardization]:
        splits, standardization = grey.read(folder)
        return {name: black_and_white(split) for name, split in splits.items()}, standardization

    return replace(grey, read=read)


def black_and_white(split: Split) -> Split:
    """The same images with the shades 0 and 255 alone, which are 0 and 1 as pixels in [0, 1]."""
    return Split((split.x >= WHITE).to(split.x.dtype) * 255, split.y)
