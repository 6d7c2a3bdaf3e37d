"""The copying problem: where symbols, blanks and the marker stand in each convention."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gradflow.tasks.copying import copying

CPU = torch.device("cpu")


@pytest.mark.parametrize(("convention", "marker"), [("urnn", 10 + 30 - 1), ("delayed_marker", 10 + 30)])
def test_a_sequence_is_what_the_authors_code_makes(convention, marker):
    """Ten symbols of 1 … 8, blanks with one marker 9 among them, T + 20 steps; asked for are blanks, then symbols."""
    x, y = copying(convention=convention, length=30, batch_size=500).load(Path(), 0, CPU).train(0)
    assert x.shape == (500, 50, 10)
    assert (x.sum(2) == 1).all()
    symbol = x.argmax(2)
    assert (symbol == 9).nonzero()[:, 1].unique().tolist() == [marker]
    assert sorted(symbol[:, :10].unique().tolist()) == list(range(1, 9))
    rest = torch.cat([symbol[:, 10:marker], symbol[:, marker + 1 :]], 1)
    assert (rest == 0).all()
    assert (y[:, :40] == 0).all()
    assert torch.equal(y[:, 40:].long(), symbol[:, :10])


@pytest.mark.parametrize(("length", "baseline"), [(100, 0.1733), (200, 0.0945), (300, 0.0650), (500, 0.0400)])
def test_the_baseline_is_the_published_one(length, baseline):
    """10 ln 8 / (T + 20), to the digits printed, in both conventions."""
    for convention in ("urnn", "delayed_marker"):
        assert copying(length=length, convention=convention).chance == pytest.approx(baseline, abs=5e-5)


def test_with_varying_t_the_baseline_is_the_mean_over_the_test_split():
    """Over 250 sequences: T = 5 and 15 for a hundred each, 25 for fifty."""
    task = copying(length=30, variable=True, test_size=250)
    data = task.load(Path(), 0, CPU)
    lengths = [
        len(x)
        for start, stop in data.slices("test", 500)
        for x in data.evaluation("test", start, stop, torch.float32)[0]
    ]
    assert len(lengths) == 250
    assert task.chance == pytest.approx(sum(10 * math.log(8) / steps for steps in lengths) / 250)
    assert min(lengths) < 30 < max(lengths) - 10


def test_a_fixed_set_is_stored_in_a_byte_per_symbol():
    data = copying(length=30, train_size=128).load(Path(), 0, CPU)
    x, y = data._fixed.split.x, data._fixed.split.y
    assert (x.dtype, y.dtype, x.shape, y.shape) == (torch.uint8, torch.uint8, (128, 50), (128, 50))
