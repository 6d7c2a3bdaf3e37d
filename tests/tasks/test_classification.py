"""Loss, score, chance and sizes of the task that all labelled images share."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.digits import digits
from gradflow.tasks.mnist import mnist

TASKS = {"digits": (digits, 1077, 64), "mnist": (mnist, 55_000, 128), "cifar10": (cifar10, 45_000, 128)}


@pytest.mark.parametrize("name", TASKS)
def test_facts_known_before_any_data_is_read(name):
    make, size, batch = TASKS[name]
    task = make()
    assert (task.name, task.outputs, task.chance) == (name, 10, 0.1)
    assert (task.train_size, task.batch_size) == (size, batch)
    assert task.steps_per_epoch == size // batch
    assert make(batch_size=size).steps_per_epoch == 1


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_larger_than_the_data_is_refused(name):
    make, size, _ = TASKS[name]
    with pytest.raises(ValueError, match=f"task.batch_size={size + 1} exceeds the {size} training examples"):
        make(batch_size=size + 1)


def test_loss_and_score_by_hand():
    """Mean of −log softmax; the score sums it and counts right answers, so that batches can be added up."""
    logits = [[2.0, 0.0, -1.0], [0.5, 0.5, 1.0], [0.0, 3.0, 0.0]]
    labels = [0, 1, 1]
    nats = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, labels, strict=True)]
    task, outputs, y = digits(), torch.tensor(logits), torch.tensor(labels)
    assert task.loss(outputs.double(), y).item() == pytest.approx(sum(nats) / 3, rel=1e-12)
    score = task.score(outputs, y)
    assert score["loss"].item() == pytest.approx(sum(nats), rel=1e-12)
    assert score["accuracy"].item() == 2
    assert all(value.dtype == torch.float64 for value in score.values())


@pytest.mark.parametrize(
    ("task", "pad", "flip"),
    [(mnist(), 0, False), (mnist(augment=True), 2, False), (cifar10(), 0, False), (cifar10(augment=True), 4, True)],
)
def test_augmentation_is_for_training_alone_and_off_unless_asked_for(task, pad, flip):
    """Digits of MNIST are never mirrored."""
    assert (task.pad, task.flip) == (pad, flip)


def test_load_puts_a_rank_s_share_of_the_batch_on_the_device():
    whole, half = (
        digits(batch_size=32).load(Path("unused"), 0, torch.device("cpu"), rank, world)
        for rank, world in ((0, 1), (1, 2))
    )
    assert torch.equal(half.train(5)[0], whole.train(5)[0][1::2])
