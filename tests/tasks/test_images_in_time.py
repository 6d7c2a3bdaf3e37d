"""MNIST and CIFAR-10 as sequences: real images, in the order that is claimed."""

from __future__ import annotations

import pytest
import torch

from gradflow.errors import ConfigError
from gradflow.tasks.cifar10 import cifar10
from gradflow.tasks.mnist import mnist
from gradflow.tasks.noise_padded_cifar10 import noise_padded_cifar10
from gradflow.tasks.permuted_mnist import permuted_mnist
from gradflow.tasks.sequential_cifar10 import sequential_cifar10
from gradflow.tasks.sequential_mnist import sequential_mnist

CPU = torch.device("cpu")
# name → task, shape of an example, training examples, share of the most frequent class
TASKS = {
    "sequential_mnist": (sequential_mnist, (784, 1), 55_000, 0.1135),
    "permuted_mnist": (permuted_mnist, (784, 1), 55_000, 0.1135),
    "sequential_cifar10": (sequential_cifar10, (1024, 3), 45_000, 0.1),
    "noise_padded_cifar10": (noise_padded_cifar10, (1000, 96), 45_000, 0.1),
}


@pytest.mark.parametrize("name", TASKS)
def test_facts_known_before_any_data_is_read(name, tmp_path, monkeypatch):
    make, shape, size, chance = TASKS[name]
    task = make(batch_size=50)
    assert (task.name, task.input_shape, task.outputs, task.every_step) == (name, shape, 10, False)
    assert (task.metric, task.chance, task.train_size, task.steps_per_epoch) == ("accuracy", chance, size, size // 50)

    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    for data_set in ("MNIST", "CIFAR10"):
        monkeypatch.setattr(f"torchvision.datasets.{data_set}.__init__", offline)
    with pytest.raises(ConfigError, match=f"task={name}: looked for"):
        task.prepare(tmp_path)


def test_cifar10_by_row():
    assert sequential_cifar10(by="row").input_shape == (32, 96)
    assert noise_padded_cifar10(length=33).input_shape == (33, 96)
    with pytest.raises(
        ValueError, match=r"task\.length=32 leaves no noise after 32 rows: set task\.length to 33 or more"
    ):
        noise_padded_cifar10(length=32)


def test_real_mnist_pixel_by_pixel_and_permuted(real_data):
    """Step 28 r + c is pixel (r, c) of the image; permuted ones have the same pixels, all in one other order."""
    folder = real_data("MNIST")
    sequential_mnist().prepare(folder)
    images, pixels, permuted, others = (
        task.load(folder, 0, CPU)
        for task in (mnist(), sequential_mnist(), permuted_mnist(), permuted_mnist(permutation_seed=1))
    )
    order = permuted_mnist().permutation(0)
    assert sorted(order.tolist()) == list(range(784))
    assert not torch.equal(order, permuted_mnist().permutation(1))
    for look in (lambda data: data.train(7), lambda data: data.evaluation("test", 100, 200, torch.float32)):
        (image, y), (sequence, _), (shuffled, label), (other, _) = map(look, (images, pixels, permuted, others))
        assert torch.equal(sequence, image.view(-1, 784, 1))
        assert torch.equal(label, y)
        assert torch.equal(shuffled, sequence[:, order])
        assert torch.equal(other, sequence[:, permuted_mnist().permutation(1)])
        assert not torch.equal(shuffled, sequence)


def test_real_cifar10_by_pixel_by_row_and_before_noise(real_data):
    folder = real_data("cifar-10-batches-py")
    noise_padded_cifar10().prepare(folder)
    images, pixels, rows, padded = (
        task.load(folder, 0, CPU)
        for task in (cifar10(), sequential_cifar10(), sequential_cifar10(by="row"), noise_padded_cifar10(length=40))
    )
    for look in (lambda data: data.train(3), lambda data: data.evaluation("val", 40, 90, torch.float32)):
        (image, y), (pixel, _), (row, _), (noisy, label) = map(look, (images, pixels, rows, padded))
        assert torch.equal(label, y)
        for r, c in ((0, 0), (5, 9), (31, 31)):
            assert torch.equal(pixel[:, 32 * r + c], image[:, :, r, c])
            for channel in range(3):
                assert torch.equal(row[:, r, 32 * channel + c], image[:, channel, r, c])
        assert torch.equal(noisy[:, :32], row)
        assert noisy.shape[1:] == (40, 96)
        assert abs(noisy[:, 32:].std().item() - 1) < 0.02
