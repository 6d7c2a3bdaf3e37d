"""MNIST."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.resident import Standardization
from gradflow.tasks.torchvision_data import torchvision_task
from gradflow.tasks.views import View

# mean and deviation of each channel over the 60,000 training images
STANDARDIZE = Standardization(255, (0.1307,), (0.3081,))


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
    return torchvision_task(
        "mnist",
        "MNIST",
        "MNIST/raw/train-images-idx3-ubyte[.gz] and its like",
        (1, 28, 28),
        10,
        60_000,
        STANDARDIZE,
        batch_size=batch_size,
        split_seed=split_seed,
        pad=2 if augment else 0,
        flip=False,
        view=view,
        standardize=standardize,
    )
