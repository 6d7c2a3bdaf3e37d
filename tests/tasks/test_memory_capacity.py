"""Memory capacity: the delays, the metric against NumPy's correlations, and reservoirs whose capacity is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gradflow.models import activations
from gradflow.models.reservoir import Reservoir
from gradflow.models.ridge import Ridge
from gradflow.tasks.memory_capacity import memory_capacity, squared_correlations

CPU = torch.device("cpu")
SMALL = {"delays": 4, "length": 30, "washout": 6, "batch_size": 3, "val_size": 5, "test_size": 7}


def test_the_targets_are_the_inputs_of_so_many_steps_ago():
    data = memory_capacity(**SMALL).load(Path(), 0, CPU)
    for x, y in (data.train(2), data.evaluation("test", 1, 6, torch.float32)):
        assert y.shape == (len(x), 30, 4)
        for k in range(1, 5):
            assert torch.equal(y[:, k:, 4 - k], x[:, :-k, 0])
        assert x.min() >= -0.5
        assert x.max() < 0.5
        assert abs(x.std().item() - 12**-0.5) < 0.05


def test_the_metric_is_that_of_the_whole_split_whatever_the_batches():
    """Σ_k r²_k against `numpy.corrcoef` over every counted step of every sequence, to 1e-10."""
    task = memory_capacity(**SMALL)
    data = task.load(Path(), 0, CPU)
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, torch.Tensor] = {}
    counted = []
    for start, stop in ((0, 3), (3, 5), (5, 7)):
        _, y = data.evaluation("test", start, stop, torch.float32)
        outputs = y.mul(torch.tensor([0.0, 0.2, 3.0, -1.0])) + 0.3 * torch.randn(y.shape, generator=generator) + 5
        counted.append((outputs[:, 6:], y[:, 6:]))
        for name, total in task.score(outputs, y).items():
            sums[name] = sums[name] + total if name in sums else total
    found = task.figures(sums, 7)
    o, y = (torch.cat(parts).flatten(0, 1).double().numpy() for parts in zip(*counted, strict=True))
    r = [np.corrcoef(o[:, k], y[:, k])[0, 1] for k in range(4)]
    assert found["memory_capacity"].item() == pytest.approx(sum(x**2 for x in r), abs=1e-10)
    assert found["loss"].item() == pytest.approx(((o - y) ** 2).mean(), rel=1e-12)
    assert (task.metric, task.larger_is_better, task.chance) == ("memory_capacity", True, 0.0)


def test_constants_are_not_correlated_and_nan_stays():
    task = memory_capacity(**SMALL)
    _, y = task.load(Path(), 0, CPU).train(0)
    constant = torch.full_like(y, 0.1)
    assert task.figures(task.score(constant, y), 3)["memory_capacity"] == 0
    assert task.figures(task.score(y, y), 3)["memory_capacity"].item() == pytest.approx(4, abs=1e-12)
    assert squared_correlations(task.score(torch.full_like(y, torch.nan), y)["memory_capacity"]).isnan().all()


def test_a_linear_ring_holds_what_it_must_and_tanh_units_no_more_than_there_are_units():
    """A ring of N linear units with weight w remembers delay k with r² = w^{2N⌊k/N⌋} (1 − w^{2N}): its state repeats
    every N steps, w^N smaller. Over all delays from 1 on that is N − (1 − w^{2N}), nearly the bound N (Jaeger 2001).
    """
    task = memory_capacity(delays=24, length=2_000, washout=100, batch_size=8, test_size=40)
    data = task.load(Path(), 0, CPU)
    capacity = {}
    for name, activation in (("linear", activations.linear), ("tanh", activations.tanh)):
        reservoir = Reservoir(1, 10, activation(), spectral_radius=0.95, topology="ring").double()
        reservoir.reset(torch.Generator().manual_seed(3))
        ridge = Ridge(10, 24)
        for step in range(3):
            x, y = data.train(step, torch.float64)
            ridge.add(reservoir(x)[:, 100:].flatten(0, 1), y[:, 100:].flatten(0, 1))
        weight, bias = ridge.solve(0.0)
        x, y = data.evaluation("test", 0, 40, torch.float64)
        outputs = reservoir(x) @ weight.T + bias
        capacity[name] = task.figures(task.score(outputs, y), 40)["memory_capacity"].item()
    lost = 0.95**20
    assert capacity["linear"] == pytest.approx(sum(lost ** (k // 10) * (1 - lost) for k in range(1, 25)), abs=0.12)
    assert capacity["tanh"] < 10


def test_a_washout_below_the_longest_delay_is_refused():
    with pytest.raises(ValueError, match=r"task\.washout=5 is below task\.delays=6.*set task\.washout=6 or more"):
        memory_capacity(delays=6, washout=5)
