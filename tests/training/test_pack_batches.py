"""The batches of many learners at once are the batches of each."""

from types import SimpleNamespace

import pytest
import torch

from gradflow.tasks.resident import Split, TrainBatches
from gradflow.training.pack_batches import PackBatches


def images(seed=0, count=20):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(count))


def learner(train):
    network = torch.nn.Linear(1, 1)
    return SimpleNamespace(network=network, data=SimpleNamespace(train=train))


def trains(splits, factors=(2.0, 2.0, 2.0), **keys):
    def times(factor):
        return lambda x, dtype: factor * x.to(dtype)

    pairs = zip(splits, factors, strict=False)
    return [TrainBatches(split, 4, 100 + k, times(factor), **keys) for k, (split, factor) in enumerate(pairs)]


def check(batches, of_each, steps=range(12)):
    """Over epochs of five batches."""
    for step in steps:
        x, y = batches(step)
        for k, train in enumerate(of_each):
            own_x, own_y = train(step)
            assert torch.equal(x[k], own_x)
            assert torch.equal(y[k], own_y)


@pytest.mark.parametrize("keys", [{}, {"pad": 2}, {"flip": True}, {"pad": 1, "flip": True}], ids=str)
def test_each_member_has_its_own_order_crops_and_mirrorings(keys):
    members = trains([images()] * 3, **keys)
    batches = PackBatches([learner(train) for train in members], 0)
    assert batches._joint
    check(batches, trains([images()] * 3, **keys))


def test_equal_examples_need_not_be_the_same_tensor():
    assert PackBatches([learner(train) for train in trains([images(), images()])], 0)._joint


@pytest.mark.parametrize(
    "members",
    [
        lambda: trains([images(0), images(1)]),
        lambda: trains([images(), images(count=24)]),
        lambda: trains([images()] * 2, factors=(1.0, 2.0)),
        lambda: [*trains([images()]), *trains([images()], pad=1)],
    ],
    ids=["other examples", "more of them", "another input", "another crop"],
)
def test_where_they_differ_in_more_than_seeds_each_is_asked_by_itself(members):
    both = members()
    batches = PackBatches([learner(train) for train in both], 0)
    assert not batches._joint
    check(batches, members(), range(4))


def test_sequences_of_different_lengths_have_no_common_batch():
    def drawn(lengths):
        return lambda step, dtype: (torch.zeros(2, lengths[step], 1, dtype=dtype), torch.zeros(2))

    batches = PackBatches([learner(drawn([3, 5])), learner(drawn([3, 4]))], 0)
    assert batches(0)[0].shape == (2, 2, 3, 1)
    assert batches(1) is None
