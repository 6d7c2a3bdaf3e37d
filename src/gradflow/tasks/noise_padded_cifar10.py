"""Noise-padded CIFAR-10."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.sequential_cifar10 import cifar10_steps

ROWS = 32


def noise_padded_cifar10(
    *, length: Several = 1_000, batch_size: Several = 128, split_seed: Seed = 0, standardize: bool = True
) -> Classification:
    """CIFAR-10 row by row, then noise until step T (Chang et al. 2019): x is [B, T, 96].

    The 32 rows come first; 968 steps of N(0, 1), each example's own, follow at T = 1,000, and the class is asked for
    after them. Noise is drawn anew at every training step, and is fixed in evaluation; see `NoisePadded`.

    Args:
        length: T, in steps.
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        standardize: each channel to mean 0 and deviation 1; false: pixels in [0, 1].

    Raises:
        ValueError: if there is no step of noise.
    """
    if length <= ROWS:
        raise ValueError(
            f"task.length={length} leaves no noise after {ROWS} rows: set task.length to {ROWS + 1} or more, "
            f"or choose task=sequential_cifar10 task.by=row"
        )
    return cifar10_steps("noise_padded_cifar10", "rows", batch_size, split_seed, standardize, length - ROWS)
