"""MNIST in black and white: the same images as `mnist`, rounded."""

from __future__ import annotations

import pytest
import torch

from gradflow.tasks.binary_mnist import binary_mnist, black_and_white
from gradflow.tasks.mnist import mnist
from gradflow.tasks.resident import Split

CPU = torch.device("cpu")


def test_a_shade_becomes_the_nearer_of_black_and_white():
    """0 … 255, each once: below 127.5 is black."""
    shades = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    split = black_and_white(Split(shades, torch.tensor([7])))
    assert split.x.dtype == torch.uint8
    assert split.x.flatten().tolist() == [255 * round(shade / 255) for shade in range(256)]
    assert split.y.tolist() == [7]


@pytest.mark.parametrize("view", ["image", "flat"])
def test_its_pixels_are_those_of_mnist_rounded(real_data, view):
    folder = real_data("MNIST")
    grey, binary = (
        make.load(folder, 0, CPU) for make in (mnist(view=view, standardize=False), binary_mnist(view=view))
    )
    assert len(torch.unique(grey.train(3)[0])) > 2
    for (x, y), (bits, labels) in (
        (grey.train(3), binary.train(3)),
        *(
            (grey.evaluation(name, 0, 50, torch.float32), binary.evaluation(name, 0, 50, torch.float32))
            for name in ("val", "test")
        ),
    ):
        assert torch.equal(bits, x.round())
        assert torch.equal(labels, y)
    assert torch.unique(binary.train(3)[0]).tolist() == [0.0, 1.0]
