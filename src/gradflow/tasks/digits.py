"""scikit-learn's handwritten digits."""

from __future__ import annotations

from functools import lru_cache

import torch

from gradflow.checked import Seed, Several
from gradflow.tasks.classification import Classification
from gradflow.tasks.holdout import hold_out
from gradflow.tasks.resident import Splits, Standardization
from gradflow.tasks.views import View

EVALUATED = 360  # examples in each of val and test, a fifth of all


def digits(
    *,
    batch_size: Several = 64,
    split_seed: Seed = 0,
    augment: bool = False,
    view: View = "image",
    standardize: bool = True,
) -> Classification:
    """1,797 grey images of 8×8 pixels with 17 levels (Alpaydin & Kaynak 1998; the test half of UCI optdigits).

    They ship inside scikit-learn. 1,077 train, 360 validation and 360 test examples, stratified by class.

    Args:
        batch_size: examples per step.
        split_seed: which examples go where; the same for every run unless set.
        augment: pad by 1 pixel of zeros and crop at random; never mirrored: a digit's mirror image is no digit.
        view: 'image' [1, 8, 8], 'flat' [64], 'sequence' [64, 1], pixel by pixel, or 'rows' [8, 8]; see `viewed`.
        standardize: to mean 0 and deviation 1 of the training examples; false: pixels in [0, 1].
    """

    return Classification(
        name="digits",
        image_shape=(1, 8, 8),
        outputs=10,
        train_size=1797 - 2 * EVALUATED,
        batch_size=batch_size,
        prepare=lambda _: None,
        read=lambda _: _read(split_seed),
        view=view,
        standardize=standardize,
        pad=1 if augment else 0,
    )


@lru_cache(maxsize=4)
def _read(split_seed: int) -> tuple[Splits, Standardization]:
    """Once: a worker's next run mostly wants the same data."""
    from sklearn.datasets import load_digits  # a second to import, which a plan can do without

    bunch = load_digits()
    x = torch.as_tensor(bunch.images).to(torch.uint8).unsqueeze(1)
    y = torch.as_tensor(bunch.target).long()
    rest, test = hold_out(x, y, EVALUATED, split_seed)
    train, val = hold_out(rest.x, rest.y, EVALUATED, split_seed)
    shade = train.x.double() / 16
    standardization = Standardization(16, (shade.mean().item(),), (shade.std().item(),))
    return {"train": train, "val": val, "test": test}, standardization
