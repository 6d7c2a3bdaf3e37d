"""Parity: every bit matters."""

from __future__ import annotations

from pathlib import Path

import torch

from gradflow.tasks.parity import parity

CPU = torch.device("cpu")


def test_the_label_is_the_sign_of_the_product():
    """An odd number of ones among n bits of ±1: the product is (−1)^(n − ones)."""
    for step in range(8):
        x, y = parity(length=11, variable=True, batch_size=400).load(Path(), 0, CPU).train(step)
        assert set(x.unique().tolist()) == {-1.0, 1.0}
        n = x.shape[1]
        odd = (-1) ** n * x.prod(1)[:, 0] < 0
        assert torch.equal(y.bool(), odd)


def test_lengths():
    assert parity(length=11).lengths == (11, 11)
    assert parity(length=11, variable=True).lengths == (5, 11)
    assert parity(length=1, variable=True).lengths == (1, 1)


def test_no_bit_and_no_pair_of_bits_tells_anything():
    x, y = parity(length=6, batch_size=20_000).load(Path(), 0, CPU).train(0)
    sign, bits = 2.0 * y - 1, x[..., 0]
    pairs = (bits[:, :, None] * bits[:, None, :]).flatten(1)
    for told in (bits, pairs):
        correlation = (told * sign[:, None]).mean(0)
        assert correlation.abs().max() < 5 / 20_000**0.5
