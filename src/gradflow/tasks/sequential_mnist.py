"""Sequential MNIST."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.mnist import mnist_images


def sequential_mnist(*, batch_size: Several = 128, split_seed: Seed = 0, standardize: bool = True) -> Classification:
    """MNIST read pixel by pixel, row by row: x is [B, 784, 1] (Le, Jaitly & Hinton 2015, section 4.2).

    The class is asked for after the last pixel. Splits are those of `mnist`.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        standardize: to mean 0 and deviation 1; false: pixels in [0, 1].
    """
    return mnist_pixels("sequential_mnist", batch_size, split_seed, standardize)


def mnist_pixels(
    name: str, batch_size: int, split_seed: int, standardize: bool, permutation_seed: int | None = None
) -> Classification:
    """MNIST as sequences of pixels, under any name."""
    return mnist_images(
        name,
        batch_size,
        split_seed,
        view="sequence",
        standardize=standardize,
        permutation_seed=permutation_seed,
    )
