"""CIFAR-10."""

from __future__ import annotations

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.resident import Standardization
from gradflow.tasks.torchvision_data import torchvision_task
from gradflow.tasks.views import View

# mean and deviation of each channel over the 50,000 training images
STANDARDIZE = Standardization(255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def cifar10(
    *,
    batch_size: Several = 128,
    split_seed: Seed = 0,
    augment: bool = False,
    view: View = "image",
    standardize: bool = True,
) -> Classification:
    """60,000 colour images of 32×32 pixels (Krizhevsky 2009): 45,000 train, 5,000 validation, 10,000 test.

    The 45,000 / 5,000 split is that of He et al. 2016, section 4.2.

    Args:
        batch_size: examples per step.
        split_seed: which training images are held out; the same for every run unless set.
        augment: pad by 4 pixels of zeros, crop at random, mirror half of the images (He et al. 2016, section 4.2).
        view: 'image' [3, 32, 32], 'flat' [3072], 'sequence' [1024, 3] or 'rows' [32, 96]; see `viewed`.
        standardize: each channel to mean 0 and deviation 1; false: pixels in [0, 1].
    """
    return torchvision_task(
        "cifar10",
        "CIFAR10",
        "cifar-10-batches-py/data_batch_1 and its like",
        (3, 32, 32),
        10,
        50_000,
        STANDARDIZE,
        batch_size=batch_size,
        split_seed=split_seed,
        pad=4 if augment else 0,
        flip=augment,
        view=view,
        standardize=standardize,
    )
