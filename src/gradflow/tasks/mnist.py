"""MNIST."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.resident import Standardization
from gradflow.tasks.torchvision_data import torchvision_task
from gradflow.tasks.views import View

# mean and deviation of each channel over the 60,000 training images
STANDARDIZE = Standardization(255, (0.1307,), (0.3081,))
ONES = 0.1135  # share of the ones, the most frequent digit, among the 10,000 test images


def mnist(
    *,
    batch_size: Several = 128,
    split_seed: Seed = 0,
    augment: bool = False,
    view: View = "image",
    standardize: bool = True,
) -> Classification:
    """70,000 grey images of 28×28 pixels (LeCun et al. 1998): 55,000 train, 5,000 validation, 10,000 test.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        augment: pad by 2 pixels of zeros and crop at random; never mirrored: a digit's mirror image is no digit.
        view: 'image' [1, 28, 28], 'flat' [784], 'sequence' [784, 1], pixel by pixel, or 'rows' [28, 28]; see `viewed`.
        standardize: each channel to mean 0 and deviation 1; false: pixels in [0, 1].
    """
    return mnist_images("mnist", batch_size, split_seed, view=view, standardize=standardize, pad=2 if augment else 0)


def mnist_images(
    name: str,
    batch_size: int,
    split_seed: int,
    *,
    view: View,
    standardize: bool,
    pad: int = 0,
    permutation_seed: int | None = None,
    image_shape: tuple[int, int, int] = (1, 28, 28),
) -> Classification:
    """MNIST under any name; see `Classification`."""
    return torchvision_task(
        name,
        "MNIST",
        "MNIST/raw/train-images-idx3-ubyte[.gz] and its like",
        image_shape,
        10,
        60_000,
        STANDARDIZE,
        batch_size=batch_size,
        split_seed=split_seed,
        pad=pad,
        flip=False,
        view=view,
        standardize=standardize,
        permutation_seed=permutation_seed,
        most_frequent=ONES,
    )
