"""Rotated columns of MNIST against the imaging library, image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradflow.tasks.mnist import mnist
from gradflow.tasks.resident import Split
from gradflow.tasks.rotated_mnist_columns import cut_and_resized, rotated, rotated_mnist_columns, views

CPU = torch.device("cpu")


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """The box around the digit, a pixel around it, never with the image's last row or column; resized by Pillow."""
    height, width = image.shape
    rows, cols = np.nonzero(image.any(1))[0], np.nonzero(image.any(0))[0]
    box = (max(cols[0] - 1, 0), max(rows[0] - 1, 0), min(cols[-1] + 2, width - 1), min(rows[-1] + 2, height - 1))
    return np.asarray(Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BILINEAR))


def off(found: torch.Tensor, wanted: np.ndarray) -> np.ndarray:
    difference: np.ndarray = np.abs(found.numpy().astype(int) - wanted.astype(int))
    return difference


def test_facts_known_before_any_data_is_read():
    task = rotated_mnist_columns(batch_size=50)
    assert (task.name, task.input_shape, task.outputs, task.every_step) == (
        "rotated_mnist_columns",
        (15, 60),
        10,
        False,
    )
    assert (task.metric, task.chance, task.train_size, task.steps_per_epoch) == ("accuracy", 0.1135, 55_000, 1_100)
    assert rotated_mnist_columns(size=8, rotations=[]).input_shape == (8, 8)


@pytest.mark.parametrize("angle", [30, 60, 45, 90, -20, 200])
@pytest.mark.parametrize("side", [15, 28])
def test_turning_is_pillow_s_to_the_pixel(angle, side):
    images = torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(angle)).to(torch.uint8)
    wanted = np.stack([np.asarray(Image.fromarray(each.numpy()).rotate(angle)) for each in images])
    assert np.array_equal(rotated(images, angle).numpy(), wanted)


def test_real_digits_against_the_imaging_library(real_data):
    folder = real_data("MNIST")
    task = rotated_mnist_columns()
    task.prepare(folder)
    images = mnist().read(folder)[0]["test"].x[:25, 0]
    differences = []
    for image in images:
        wanted = [cut(image.numpy(), 15)]
        differences.append(off(cut_and_resized(image[None], 15)[0], wanted[0]))
        for angle in (30, 60, 60):
            turned = np.asarray(Image.fromarray(wanted[-1]).rotate(angle))
            wanted.append(cut(turned, 15))
            differences.append(off(cut_and_resized(torch.tensor(turned)[None], 15)[0], wanted[-1]))
        found = views(image[None], 15, (30, 60, 60))[0]
        assert off(found, np.stack(wanted)).max() <= 4  # what was off by one is resized again
    assert np.max(differences) <= 2
    assert np.mean(differences) < 0.15


def test_a_step_is_a_column_of_every_view(monkeypatch):
    """Shades in [0, 1], labels as they were; the same training images for every run."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    spots[:, :, 6:22, 8:19] = torch.randint(0, 256, (40, 1, 16, 11), generator=generator).to(torch.uint8)
    few = {name: Split(spots, torch.arange(40) % 10) for name in ("train", "val", "test")}
    monkeypatch.setattr("gradflow.tasks.torchvision_data.read", lambda *_: few)
    data = rotated_mnist_columns(batch_size=8).load(Path("spots"), 0, CPU)
    x, y = data.evaluation("test", 3, 9, torch.float32)
    made = views(spots[3:9, 0], 15, (30, 60, 60)).float() / 255
    assert x.shape == (6, 15, 60)
    assert torch.equal(y, few["test"].y[3:9])
    for column in (0, 7, 14):
        for view in range(4):
            torch.testing.assert_close(x[:, column, 15 * view : 15 * view + 15], made[:, view, :, column])
    assert data.train(0)[0].shape == (8, 15, 60)
    turned = rotated_mnist_columns(size=9, rotations=[45.0]).load(Path("spots"), 0, CPU)
    assert turned.evaluation("val", 0, 2, torch.float32)[0].shape == (2, 9, 18)
