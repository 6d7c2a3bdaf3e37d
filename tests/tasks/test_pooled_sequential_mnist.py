"""Pooled sequential MNIST against torch's own mean pooling of MNIST."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from gradflow.errors import ConfigError
from gradflow.tasks.mnist import mnist
from gradflow.tasks.pooled_sequential_mnist import pooled_sequential_mnist, summed

CPU = torch.device("cpu")


def test_facts_known_before_any_data_is_read(tmp_path, monkeypatch):
    task = pooled_sequential_mnist(batch_size=50)
    assert (task.name, task.input_shape, task.outputs, task.every_step) == (
        "pooled_sequential_mnist",
        (196, 1),
        10,
        False,
    )
    assert (task.metric, task.chance, task.train_size, task.steps_per_epoch) == ("accuracy", 0.1135, 55_000, 1_100)
    assert pooled_sequential_mnist(pool=4).input_shape == (49, 1)

    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST.__init__", offline)
    with pytest.raises(ConfigError, match="task=pooled_sequential_mnist: looked for"):
        task.prepare(tmp_path)


@pytest.mark.parametrize("pool", [2, 4])
def test_the_brightest_image_overflows_nothing(pool):
    white = torch.full((3, 1, 28, 28), 255, dtype=torch.uint8)
    assert summed(white, pool).unique().tolist() == [255 * pool**2]


def test_real_pixels_are_means_of_squares_row_by_row(real_data):
    folder = real_data("MNIST")
    image, y = mnist(standardize=False).load(folder, 0, CPU).train(7)
    for pool in (2, 4):
        x, label = pooled_sequential_mnist(pool=pool, standardize=False).load(folder, 0, CPU).train(7)
        assert torch.equal(label, y)
        torch.testing.assert_close(x, avg_pool2d(image, pool).view(len(image), -1, 1))

        data = pooled_sequential_mnist(pool=pool).load(folder, 0, CPU)
        task = pooled_sequential_mnist(pool=pool, permutation_seed=1)
        shuffled, in_order = (
            d.evaluation("test", 0, 10_000, torch.float32)[0] for d in (task.load(folder, 0, CPU), data)
        )
        assert torch.equal(shuffled, in_order[:, task.permutation(1)])
        assert not torch.equal(shuffled, in_order)
        assert abs(in_order.mean().item()) < 0.02  # the moments are those of the training images
        assert abs(in_order.std().item() - 1) < 0.02
