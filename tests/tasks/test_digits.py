"""scikit-learn's digits: sizes, strata, seeds, standardisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from gradflow.tasks.digits import digits
from gradflow.tasks.holdout import hold_out

NOWHERE = Path("unused")


def read(seed: int = 0):
    return digits(split_seed=seed).read(NOWHERE)


def keys(x: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in x]


def test_sizes_and_storage():
    splits, _ = read()
    assert {name: len(part) for name, part in splits.items()} == {"train": 1077, "val": 360, "test": 360}
    for part in splits.values():
        assert part.x.dtype == torch.uint8
        assert part.x.shape == (len(part), 1, 8, 8)
        assert part.y.dtype == torch.int64
    assert digits().train_size == 1077


def test_the_splits_are_the_data_set_each_example_once():
    splits, _ = read()
    bunch = load_digits()
    together = sorted((key, int(y)) for part in splits.values() for key, y in zip(keys(part.x), part.y, strict=True))
    images = torch.as_tensor(bunch.images).to(torch.uint8)
    assert together == sorted((key, int(y)) for key, y in zip(keys(images), bunch.target, strict=True))


def test_strata():
    """Every class has its share of every split, to within one example of each cut."""
    splits, _ = read()
    whole = torch.bincount(torch.as_tensor(load_digits().target)).double()
    for part in splits.values():
        assert ((torch.bincount(part.y) - whole * len(part) / 1797).abs() < 2).all()


def test_the_seed_decides_the_split():
    (a, _), (again, _), (b, _) = read(0), read(0), read(1)
    for name in a:
        assert torch.equal(a[name].x, again[name].x)
        assert set(keys(a[name].x)) != set(keys(b[name].x))


@pytest.mark.parametrize("seed", [0, 3])
def test_standardised_training_images_have_mean_0_and_deviation_1(seed):
    splits, standardize = read(seed)
    x = standardize(splits["train"].x, torch.float64)
    assert x.mean().item() == pytest.approx(0, abs=1e-12)
    assert x.std().item() == pytest.approx(1, abs=1e-12)


def test_evaluation_is_in_order_and_not_shuffled():
    data = digits().load(NOWHERE, seed=0, device=torch.device("cpu"))
    splits, standardize = read()
    x, y = data.evaluation("val", 100, 110, torch.float64)
    assert torch.equal(x, standardize(splits["val"].x[100:110], torch.float64))
    assert torch.equal(y, splits["val"].y[100:110])


def test_the_run_s_seed_orders_the_batches_but_leaves_the_split():
    a, b = (digits().load(NOWHERE, seed=seed, device=torch.device("cpu")) for seed in (0, 1))
    assert torch.equal(a.splits["train"].x, b.splits["train"].x)
    assert not torch.equal(a.train(0)[1], b.train(0)[1])


def test_hold_out_keeps_shares_exactly_where_they_divide():
    x, y = torch.arange(100).view(100, 1, 1, 1), torch.arange(100) % 4
    rest, aside = hold_out(x, y, 20, seed=0)
    assert torch.bincount(aside.y).tolist() == [5] * 4
    assert sorted(torch.cat([rest.x, aside.x]).flatten().tolist()) == list(range(100))
    assert torch.equal(aside.x.flatten() % 4, aside.y)
