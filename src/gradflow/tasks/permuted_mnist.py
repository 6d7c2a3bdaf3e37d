"""Permuted sequential MNIST."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.sequential_mnist import mnist_pixels


def permuted_mnist(
    *, permutation_seed: Seed = 0, batch_size: Several = 128, split_seed: Seed = 0, standardize: bool = True
) -> Classification:
    """`sequential_mnist` with its pixels in one random order, the same for every image: x is [B, 784, 1].

    What neighbours say of each other is then spread over the whole sequence (Le, Jaitly & Hinton 2015, section 4.2).
    Published figures are each for a permutation of their own, none of which is ours.

    Args:
        permutation_seed: of the order of the pixels.
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        standardize: to mean 0 and deviation 1; false: pixels in [0, 1].
    """
    return mnist_pixels("permuted_mnist", batch_size, split_seed, standardize, permutation_seed)
